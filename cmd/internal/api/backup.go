package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// BackupRequest asks for a backup outside of any schedule.
type BackupRequest struct {
	// Schedule is the backup block whose repository, source and name are taken where
	// nothing else is said; empty for the only one.
	Schedule string `json:"schedule,omitempty"`
	// Repository, From and Name are as in the spec's backup block; a backup of another
	// name than its block's is not deleted by its keep rule.
	Repository string `json:"repository,omitempty"`
	From       string `json:"from,omitempty"`
	Name       string `json:"name,omitempty"`
	By         string `json:"by,omitempty"`
}

// VerifyRequest asks for a proof of a backup.
type VerifyRequest struct {
	Repository string `json:"repository,omitempty"`
	// Backup is an ID, or "latest".
	Backup string `json:"backup"`
	// Quick compares stored objects with their checksums and restores nothing.
	Quick bool   `json:"quick,omitempty"`
	Node  string `json:"node,omitempty"`
	By    string `json:"by,omitempty"`
}

// DeleteRequest asks for backups to be deleted.
type DeleteRequest struct {
	Repository string   `json:"repository,omitempty"`
	Backups    []string `json:"backups"`
	By         string   `json:"by,omitempty"`
}

// PointRequest asks for a named restore point.
type PointRequest struct {
	Name string `json:"name"`
	By   string `json:"by,omitempty"`
}

// CancelRequest gives a job up; zero means the one that is under way.
type CancelRequest struct {
	Job uint64 `json:"job,omitempty"`
	By  string `json:"by,omitempty"`
}

// JobAnswer is a job with what its node says of it.
type JobAnswer struct {
	Job      reconcile.Job        `json:"job"`
	Progress *reconcile.JobReport `json:"progress,omitempty"`
	Elapsed  time.Duration        `json:"elapsed_ns"`
}

// BackupInfo is one backup in a repository.
type BackupInfo struct {
	reconcile.CatalogBackup
	Repository  string `json:"repository"`
	Cluster     string `json:"cluster"`
	Role        string `json:"role,omitempty"`
	Version     string `json:"version,omitempty"`
	SystemID    string `json:"system_id,omitempty"`
	Compression string `json:"compression,omitempty"`
	Encrypted   bool   `json:"encrypted"`
	Parts       int    `json:"parts"`
	By          string `json:"by,omitempty"`
	// Proof is the latest attempt to restore it; nil when there was none.
	Proof *BackupProof `json:"proof,omitempty"`
}

// BackupProof is what became of an attempt to restore a backup.
type BackupProof struct {
	At       time.Time     `json:"at"`
	Node     string        `json:"node"`
	OK       bool          `json:"ok"`
	Error    string        `json:"error,omitempty"`
	Took     time.Duration `json:"took_ns"`
	LSN      pg.LSN        `json:"lsn,omitempty"`
	Timeline pg.Timeline   `json:"timeline,omitempty"`
	Pages    int64         `json:"pages,omitempty"`
	Indexes  int64         `json:"indexes,omitempty"`
}

// BackupDetail is all that is known of one backup.
type BackupDetail struct {
	BackupInfo
	// Objects are the parts as stored.
	Objects []BackupObject `json:"objects"`
	// Reach is how far recovery can go from it; nil when that could not be found out.
	Reach *BackupReach `json:"reach,omitempty"`
}

// BackupObject is one stored object.
type BackupObject struct {
	Name   string   `json:"name"`
	Stored pg.Bytes `json:"stored"`
	Plain  pg.Bytes `json:"plain"`
	SHA256 string   `json:"sha256"`
}

// BackupReach is a stretch of history that can be restored.
type BackupReach struct {
	From     pg.LSN      `json:"from"`
	To       pg.LSN      `json:"to"`
	Timeline pg.Timeline `json:"timeline"`
	// Since and Until are about when: a backup's end, and when the last file of WAL
	// came into the repository.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Gap is the first file of WAL that is missing although later ones are there.
	Gap string `json:"gap,omitempty"`
}

// TakeoverRequest asks for a repository to become this cluster's.
type TakeoverRequest struct {
	Repository string `json:"repository,omitempty"`
	// DryRun only tells whose it is.
	DryRun bool   `json:"dry_run,omitempty"`
	By     string `json:"by,omitempty"`
}

// TakeoverAnswer is whose a repository is, or was before it was taken over.
type TakeoverAnswer struct {
	Repository string    `json:"repository"`
	Cluster    string    `json:"cluster"`
	ClusterID  string    `json:"cluster_id"`
	Since      time.Time `json:"since"`
	// Own is set when it is this cluster's.
	Own bool `json:"own"`
}

// RestoreRequest asks for the whole cluster to be taken back to a point in time, or,
// with Abort, for such a restore to be given up.
type RestoreRequest struct {
	Repository string                  `json:"repository,omitempty"`
	Backup     string                  `json:"backup,omitempty"` // empty and "latest": the newest from which Target can be reached
	Target     reconcile.RestoreTarget `json:"target,omitzero"`
	Node       string                  `json:"node,omitempty"`
	Abort      bool                    `json:"abort,omitempty"`
	// DryRun only says what would happen.
	DryRun bool   `json:"dry_run,omitempty"`
	By     string `json:"by,omitempty"`
}

// RestoreAnswer is what a restore does, or would do.
type RestoreAnswer struct {
	Backup BackupInfo              `json:"backup"`
	Target reconcile.RestoreTarget `json:"target,omitzero"`
	Reach  *BackupReach            `json:"reach,omitempty"`
	Node   string                  `json:"node"`
	// Steps say in order what happens, Loses what is lost.
	Steps []string `json:"steps"`
	Loses string   `json:"loses,omitempty"`
}

// Backups lists the backups in a repository; in all of the spec's when it is empty.
func (c *Client) Backups(ctx context.Context, repository string) ([]BackupInfo, error) {
	return get[[]BackupInfo](ctx, c, "/backups?repository="+url.QueryEscape(repository))
}

// Backup is one backup in detail; id may be "latest".
func (c *Client) Backup(ctx context.Context, repository, id string) (BackupDetail, error) {
	return get[BackupDetail](ctx, c, "/backups/"+url.PathEscape(id)+"?repository="+url.QueryEscape(repository))
}

// CreateBackup begins a backup.
func (c *Client) CreateBackup(ctx context.Context, r BackupRequest) (JobAnswer, error) {
	return post[JobAnswer](ctx, c, "/backup", r)
}

// VerifyBackup begins the proof of a backup.
func (c *Client) VerifyBackup(ctx context.Context, r VerifyRequest) (JobAnswer, error) {
	return post[JobAnswer](ctx, c, "/backup/verify", r)
}

// DeleteBackups begins the deletion of backups.
func (c *Client) DeleteBackups(ctx context.Context, r DeleteRequest) (JobAnswer, error) {
	return post[JobAnswer](ctx, c, "/backup/delete", r)
}

// RestorePoint begins to write a named restore point.
func (c *Client) RestorePoint(ctx context.Context, r PointRequest) (JobAnswer, error) {
	return post[JobAnswer](ctx, c, "/backup/point", r)
}

// CancelJob gives a job up.
func (c *Client) CancelJob(ctx context.Context, r CancelRequest) (JobAnswer, error) {
	return post[JobAnswer](ctx, c, "/backup/cancel", r)
}

// Restore begins a restore of the whole cluster, gives it up, or says what it would do.
func (c *Client) Restore(ctx context.Context, r RestoreRequest) (RestoreAnswer, error) {
	return post[RestoreAnswer](ctx, c, "/backup/restore", r)
}

// TakeOver makes a repository this cluster's.
func (c *Client) TakeOver(ctx context.Context, r TakeoverRequest) (TakeoverAnswer, error) {
	return post[TakeoverAnswer](ctx, c, "/backup/takeover", r)
}

// Jobs are the jobs that the record remembers, oldest first, the one under way last.
func (c *Client) Jobs(ctx context.Context) ([]JobAnswer, error) {
	return get[[]JobAnswer](ctx, c, "/jobs")
}

// Job is one job.
func (c *Client) Job(ctx context.Context, id uint64) (JobAnswer, error) {
	var out JobAnswer
	err := c.Do(ctx, Call{Method: http.MethodGet, Path: "/jobs/" + url.PathEscape(strconv.FormatUint(id, 10)), Repeatable: true}, &out)
	return out, err
}
