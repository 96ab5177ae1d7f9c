package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

var errDeclined = errors.New("not approved: nothing was changed")

// confirm asks for a yes. Without somebody to ask it refuses.
func (a *app) confirm(ctx context.Context, question string, autoApprove bool) error {
	return a.confirmWith(ctx, question+"\nOnly yes is taken for a yes: ", "yes", autoApprove)
}

// confirmWith goes ahead when exactly word is the answer to a question.
func (a *app) confirmWith(ctx context.Context, question, word string, autoApprove bool) error {
	if autoApprove {
		return nil
	}
	if !a.sys.InteractiveIn {
		return errors.New("there is no terminal to ask at, nothing was changed: add --auto-approve to go ahead")
	}
	fmt.Fprint(a.people(), question)
	if a.in == nil {
		a.in = bufio.NewReader(a.sys.Stdin)
	}
	in, answer := a.in, make(chan string, 1)
	go func() { // ends with the process when nobody answers
		line, _ := in.ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.people())
		return errDeclined
	case text := <-answer:
		if text != word {
			return errDeclined
		}
	}
	fmt.Fprintln(a.people())
	return nil
}
