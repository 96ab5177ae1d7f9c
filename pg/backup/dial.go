package backup

import (
	"context"
	"net/url"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob URLs
	_ "gocloud.dev/blob/gcsblob"   // gs URLs
	_ "gocloud.dev/blob/s3blob"    // s3 URLs
)

// dialBucket prepares a client with the credentials of the platform.
func dialBucket(ctx context.Context, l location) (*blob.Bucket, error) {
	u := url.URL{Scheme: l.scheme, Host: l.bucket, RawQuery: l.query.Encode()}
	return blob.OpenBucket(ctx, u.String())
}
