// Package restore puts the files of a base backup from a repository into a
// directory, each checked against PostgreSQL's own manifest, and checks the stored
// objects of a backup. What is recovered from these files, and how far, is the
// business of package instance. DESIGN.md gives the reasons. Linux only.
package restore
