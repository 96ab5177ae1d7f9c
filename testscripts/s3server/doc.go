// Package s3server runs a real S3 server for tests: versitygw, pinned, built from
// source through Go's module proxy, on 127.0.0.1 and on a directory of the test.
//
// The first use on a machine builds it, which takes some two minutes of CPU; the
// program is kept in the user's cache directory. With RAM_TEST_S3=off tests that
// need it are skipped.
package s3server
