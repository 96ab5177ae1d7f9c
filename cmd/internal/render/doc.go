// Package render writes what ram knows as text for people: plans, status, runs,
// events. It reads no clock and no environment: the caller says whether there is
// colour, how wide the terminal is and how late it is.
package render
