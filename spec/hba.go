package spec

import (
	"fmt"
	"strings"
)

// checkHBA refuses a line that cannot be one of pg_hba.conf.
func checkHBA(line string) error {
	if len(strings.Fields(line)) < 4 {
		return fmt.Errorf("%q is not a line of pg_hba.conf", line)
	}
	return nil
}
