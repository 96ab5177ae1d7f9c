package hclspec

// Options are what a spec may see besides its own text. The zero value gives a
// spec no variables, no environment and no files.
type Options struct {
	// Vars are values for variable blocks by name, as from --var name=value.
	// They win over VarFiles.
	Vars map[string]string
	// VarFiles hold values as HCL attributes; later ones win.
	VarFiles []Source
	// Env looks up an environment variable for env(). Nil has none.
	Env func(name string) (value string, found bool)
	// ReadFile reads a file for file(). The name is absolute or relative to
	// the working directory, as the names of the sources are. Nil has none.
	ReadFile func(name string) ([]byte, error)
}
