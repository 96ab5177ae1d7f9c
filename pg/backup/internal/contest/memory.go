package contest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const memoryEvery = 50 * time.Millisecond

// watchMemory samples what a process group has in memory until the function that it
// returns is called, which tells the most, in kB. What processes share counts once. (What
// the kernel tells at a process's end is also of this process, before the exec.)
func watchMemory(group int) (peak func() int64) {
	end, most := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		var highest int64
		for {
			select {
			case <-tick.C:
				highest = max(highest, groupMemory(group))
			case <-end:
				most <- highest
				return
			}
		}
	}()
	return func() int64 {
		close(end)
		return <-most
	}
}

// groupMemory leaves out processes that have ended meanwhile.
func groupMemory(group int) (kilobytes int64) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, rest, _ := bytes.Cut(text, []byte(") "))
		fields := bytes.Fields(rest)
		if len(fields) < 3 || string(fields[2]) != strconv.Itoa(group) {
			continue
		}
		kilobytes += proportionalSize(filepath.Join(filepath.Dir(file), "smaps_rollup"))
	}
	return kilobytes
}

func proportionalSize(file string) (kilobytes int64) {
	text, _ := os.ReadFile(file)
	if _, after, found := bytes.Cut(text, []byte("\nPss:")); found {
		_, _ = fmt.Sscan(string(after), &kilobytes)
	}
	return kilobytes
}
