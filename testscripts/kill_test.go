package testscripts

import (
	"os"
	"strconv"
)

// seeds is how many times the tests with random moments are repeated, from the
// environment variable RAM_TEST_SEEDS; at least 1.
func seeds() int {
	n, err := strconv.Atoi(os.Getenv("RAM_TEST_SEEDS"))
	if err != nil {
		return 1
	}
	return max(1, n)
}
