package spec

// The zone database travels inside the binary for hosts that have none, so that
// a schedule is valid on every node or on none.
import _ "time/tzdata"
