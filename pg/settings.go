package pg

import (
	_ "embed"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/agext/levenshtein"
)

// SettingType is what a setting's value is made of.
type SettingType string

// The types, in PostgreSQL's own words (pg_settings.vartype).
const (
	SettingBool    SettingType = "bool"
	SettingInteger SettingType = "integer"
	SettingReal    SettingType = "real"
	SettingString  SettingType = "string"
	SettingEnum    SettingType = "enum"
)

// Context says who may change a setting and when a change takes effect.
type Context string

// The contexts, in PostgreSQL's own words (pg_settings.context).
const (
	ContextInternal         Context = "internal"          // reported by the server, never set
	ContextPostmaster       Context = "postmaster"        // at server start
	ContextSighup           Context = "sighup"            // at reload
	ContextSuperuserBackend Context = "superuser-backend" // at reload, for later sessions
	ContextBackend          Context = "backend"           // at reload, for later sessions
	ContextSuperuser        Context = "superuser"         // at reload, or in a superuser's session
	ContextUser             Context = "user"              // at reload, or in any session
)

// NeedsRestart reports whether a change in the configuration file waits for a
// server restart. A reload is enough for the others.
func (c Context) NeedsRestart() bool { return c == ContextPostmaster }

// Setting is what one major version of PostgreSQL knows about a configuration
// parameter. It is a value: callers may keep it, but must not write to its slices.
type Setting struct {
	Name    string // as pg_settings spells it, such as DateStyle
	Type    SettingType
	Unit    string // of a number without a unit: B, kB, 8kB, MB, ms, s, min; or empty
	Context Context
	Min     string // smallest number, as pg_settings shows it; empty when not a number
	Max     string // largest number, likewise
	Enum    []string
	// Custom is set for a name with a dot: a parameter of an extension, of
	// which nothing is known. Any value passes, and the context is a guess;
	// the server tells whether the extension wants a restart.
	Custom bool

	synonyms map[string]string // enum spellings that the server takes but does not show
}

// The majors whose settings are known exactly. Other majors are answered as the
// nearest of these, so that a newer server can be tried before its table is here.
const (
	OldestKnownMajor = 13
	NewestKnownMajor = 18
)

//go:embed settings.tsv
var settingsText string

// majorSettings holds the settings of one major by lower-case name.
type majorSettings map[string]Setting

var settingsTable = sync.OnceValue(func() map[int]majorSettings {
	return parseSettings(settingsText)
})

func parseSettings(text string) map[int]majorSettings {
	table := map[int]majorSettings{}
	for major := OldestKnownMajor; major <= NewestKnownMajor; major++ {
		table[major] = majorSettings{}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		setting, since, until := parseSetting(strings.TrimSuffix(line, "\n"))
		for major := since; major <= until; major++ {
			table[major][strings.ToLower(setting.Name)] = setting
		}
	}
	return table
}

// parseSetting reads one line of the table, which a test proves well formed.
func parseSetting(line string) (setting Setting, since, until int) {
	column := strings.Split(line, "\t")
	from, to, _ := strings.Cut(column[1], "-")
	setting = Setting{
		Name:    column[0],
		Type:    SettingType(column[2]),
		Unit:    column[3],
		Context: Context(column[4]),
		Min:     column[5],
		Max:     column[6],
	}
	if setting.Type == SettingEnum {
		setting.Enum = strings.Split(column[7], ",")
	}
	if column[8] != "" {
		setting.synonyms = map[string]string{}
		for pair := range strings.SplitSeq(column[8], ",") {
			spelling, meaning, _ := strings.Cut(pair, "=")
			setting.synonyms[spelling] = meaning
		}
	}
	return setting, majorOr(from, OldestKnownMajor), majorOr(to, NewestKnownMajor)
}

func majorOr(text string, open int) int {
	major, err := strconv.Atoi(text)
	if err != nil {
		return open
	}
	return major
}

func settingsOf(major int) majorSettings {
	return settingsTable()[min(max(major, OldestKnownMajor), NewestKnownMajor)]
}

// LookupSetting finds a configuration parameter of a major version, in any
// case. A name of the form extension.parameter is always found, as a custom
// setting. Concurrent calls are safe.
func LookupSetting(name string, major int) (Setting, bool) {
	if setting, ok := settingsOf(major)[strings.ToLower(name)]; ok {
		return setting, true
	}
	if customName(name) {
		return Setting{Name: name, Type: SettingString, Context: ContextUser, Custom: true}, true
	}
	return Setting{}, false
}

// SettingNames lists the known parameters of a major version, sorted.
func SettingNames(major int) []string {
	settings := settingsOf(major)
	names := make([]string, 0, len(settings))
	for _, setting := range settings {
		names = append(names, setting.Name)
	}
	slices.Sort(names)
	return names
}

// customName is the form that a configuration file takes for parameters of
// extensions: two names joined by one dot.
func customName(name string) bool {
	class, parameter, _ := strings.Cut(name, ".")
	return class != "" && nameLength(class) == len(class) && parameter != "" && nameLength(parameter) == len(parameter)
}

// settingSuccessor leads from names that old guides mention to what took their
// place, where the two are spelled too differently to be found by likeness.
func settingSuccessor(name string) string {
	switch name {
	case "checkpoint_segments":
		return "max_wal_size"
	case "wal_keep_segments":
		return "wal_keep_size"
	case "sort_mem":
		return "work_mem"
	case "vacuum_mem":
		return "maintenance_work_mem"
	case "force_parallel_mode":
		return "debug_parallel_query"
	case "debug_parallel_query":
		return "force_parallel_mode"
	case "ssl_ecdh_curve":
		return "ssl_groups"
	case "ssl_groups":
		return "ssl_ecdh_curve"
	case "trigger_file":
		return "promote_trigger_file"
	}
	return ""
}

// NearestSetting names the parameter of a major version that was most likely
// meant, or nothing when none is near. It suggests only what can be set.
func NearestSetting(name string, major int) string {
	wanted := strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	settings := settingsOf(major)
	if successor, ok := settings[settingSuccessor(wanted)]; ok {
		return successor.Name
	}
	nearest, least := "", math.MaxInt
	for _, candidate := range SettingNames(major) {
		lower := strings.ToLower(candidate)
		if settings[lower].Context == ContextInternal {
			continue
		}
		if distance := levenshtein.Distance(wanted, lower, nil); distance < least {
			nearest, least = candidate, distance
		}
	}
	if least > max(1, min(len(wanted)/4, 4)) {
		return ""
	}
	return nearest
}
