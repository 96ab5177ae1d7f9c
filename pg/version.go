package pg

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is which PostgreSQL a program is. The zero Version is unknown.
type Version struct {
	Major int    // 15
	Minor int    // 18; zero for development and test versions
	Text  string // as PostgreSQL writes it: 15.18, 19devel, 18beta2
}

// String is the text; the zero Version prints as unknown.
func (v Version) String() string {
	if v.Text == "" {
		return "unknown"
	}
	return v.Text
}

// versionLine is what every PostgreSQL program answers to --version; after the
// number a distribution may add its own.
var versionLine = regexp.MustCompile(`^\S+ \([^()]*\) ((\d{1,4})(?:\.(\d{1,4}))?(?:\.\d+)*(?:devel|(?:alpha|beta|rc)\d+)?)(?:\s|$)`)

// ParseVersion reads what a program prints with --version, such as
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func ParseVersion(text string) (Version, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return Version{}, fmt.Errorf("%q is not what a PostgreSQL program prints with --version; check bin_dir", text)
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Version{}, fmt.Errorf("version %q: %w", m[1], err)
	}
	minor := 0
	if m[3] != "" {
		if minor, err = strconv.Atoi(m[3]); err != nil {
			return Version{}, fmt.Errorf("version %q: %w", m[1], err)
		}
	}
	return Version{Major: major, Minor: minor, Text: m[1]}, nil
}
