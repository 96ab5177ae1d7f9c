package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ramhq/ram/reconcile"
)

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	err := c.Do(ctx, Call{Method: http.MethodGet, Path: path, Repeatable: true}, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, in any) (T, error) {
	var out T
	err := c.Do(ctx, Call{Method: http.MethodPost, Path: path, In: in}, &out)
	return out, err
}

// Status is the state of the cluster.
func (c *Client) Status(ctx context.Context) (reconcile.Status, error) {
	return get[reconcile.Status](ctx, c, "/status")
}

// Nodes are the members in detail.
func (c *Client) Nodes(ctx context.Context) ([]NodeInfo, error) {
	return get[[]NodeInfo](ctx, c, "/nodes")
}

// Plan asks what would happen. It changes nothing.
func (c *Client) Plan(ctx context.Context, request PlanRequest) (PlanAnswer, error) {
	var out PlanAnswer
	err := c.Do(ctx, Call{Method: http.MethodPost, Path: "/plan", In: request, Repeatable: true}, &out)
	return out, err
}

// Apply asks for a spec to be accepted and carried out.
func (c *Client) Apply(ctx context.Context, request ApplyRequest) (ApplyAnswer, error) {
	return post[ApplyAnswer](ctx, c, "/apply", request)
}

// Observed is everything that a plan is made from.
func (c *Client) Observed(ctx context.Context) (ObservedFile, error) {
	return get[ObservedFile](ctx, c, "/observed")
}

// Spec is the spec in force.
func (c *Client) Spec(ctx context.Context) (SpecAnswer, error) {
	return get[SpecAnswer](ctx, c, "/spec")
}

// History are the accepted revisions, oldest first, without their specs.
func (c *Client) History(ctx context.Context) ([]reconcile.Revision, error) {
	return get[[]reconcile.Revision](ctx, c, "/history")
}

// Revision is one accepted revision, whole.
func (c *Client) Revision(ctx context.Context, number uint64) (reconcile.Revision, error) {
	return get[reconcile.Revision](ctx, c, fmt.Sprintf("/history/%d", number))
}

// LatestEvents are the last limit events, oldest first.
func (c *Client) LatestEvents(ctx context.Context, limit int) (EventsAnswer, error) {
	return get[EventsAnswer](ctx, c, "/events?limit="+strconv.Itoa(limit))
}

// EventsAfter are events that follow the one numbered after; with none yet, it
// waits that long for one.
func (c *Client) EventsAfter(ctx context.Context, after uint64, limit int, wait time.Duration) (EventsAnswer, error) {
	query := url.Values{}
	query.Set("after", strconv.FormatUint(after, 10))
	query.Set("limit", strconv.Itoa(limit))
	query.Set("wait", wait.String())
	var out EventsAnswer
	err := c.Do(ctx, Call{Method: http.MethodGet, Path: "/events?" + query.Encode(), Repeatable: true, Wait: wait}, &out)
	return out, err
}

// Runs are the runs that the record remembers, oldest first.
func (c *Client) Runs(ctx context.Context) ([]reconcile.Run, error) {
	return get[[]reconcile.Run](ctx, c, "/runs")
}

// Run is one run with what its nodes are doing.
func (c *Client) Run(ctx context.Context, id uint64) (RunAnswer, error) {
	return get[RunAnswer](ctx, c, fmt.Sprintf("/runs/%d", id))
}

// Restart restarts PostgreSQL on nodes, one after the other.
func (c *Client) Restart(ctx context.Context, request NodesRequest) (RunStarted, error) {
	return post[RunStarted](ctx, c, "/restart", request)
}

// Reload has PostgreSQL on nodes read its configuration again.
func (c *Client) Reload(ctx context.Context, request NodesRequest) (RunStarted, error) {
	return post[RunStarted](ctx, c, "/reload", request)
}

// Reinit clones a standby anew.
func (c *Client) Reinit(ctx context.Context, request NodesRequest) (RunStarted, error) {
	return post[RunStarted](ctx, c, "/reinit", request)
}

// Pause has the cluster decide nothing until Resume.
func (c *Client) Pause(ctx context.Context, request PauseRequest) error {
	return c.Do(ctx, Call{Method: http.MethodPost, Path: "/pause", In: request, Repeatable: true}, nil)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, request PauseRequest) error {
	return c.Do(ctx, Call{Method: http.MethodPost, Path: "/resume", In: request, Repeatable: true}, nil)
}

// Credentials are the superuser's. They are a secret.
func (c *Client) Credentials(ctx context.Context) (Credentials, error) {
	return get[Credentials](ctx, c, "/credentials")
}

// Info is what the ramd that answers says of itself.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return get[Info](ctx, c, "/info")
}

// Stop stops the ramd that the request is sent to.
func (c *Client) Stop(ctx context.Context, request StopRequest) error {
	return c.Do(ctx, Call{Method: http.MethodPost, Path: "/stop", In: request}, nil)
}
