//go:build !race

package cluster

// raceEnabled says that the tests, and so ramd, have the race detector.
const raceEnabled = false
