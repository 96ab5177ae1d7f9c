package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob URLs
	_ "gocloud.dev/blob/gcsblob"   // gs URLs
	"gocloud.dev/blob/s3blob"
)

const (
	// dialTimeout bounds one attempt to connect; three are made.
	dialTimeout = 5 * time.Second
	// answerTimeout bounds the wait for an answer when a request is sent.
	answerTimeout = time.Minute
	// anyRegion is what servers that are not Amazon's take, and a request needs one.
	anyRegion = "us-east-1"
)

// dialBucket prepares a client with the credentials of the platform. Nothing is
// sent yet.
func dialBucket(ctx context.Context, l location) (*blob.Bucket, error) {
	if l.scheme == "s3" {
		return dialS3(ctx, l)
	}
	u := url.URL{Scheme: l.scheme, Host: l.bucket, RawQuery: l.query.Encode()}
	return blob.OpenBucket(ctx, u.String())
}

// dialS3 does what gocloud's own opener does with a URL's parameters. Beyond that it
// gives up on an endpoint that does not answer, and asks servers other than Amazon's
// for no checksums that few of them know: objects carry their own.
func dialS3(ctx context.Context, l location) (*blob.Bucket, error) {
	p := &s3Parameters{query: l.query}
	endpoint := l.query.Get("endpoint")
	chosen := l.query.Has("request_checksum_calculation") || l.query.Has("response_checksum_validation")
	pathStyle := p.flag("use_path_style", "s3ForcePathStyle")
	accelerate, plainHTTP := p.flag("accelerate"), p.flag("disable_https")
	options := &s3blob.Options{EncryptionType: types.ServerSideEncryption(p.take("ssetype")), KMSEncryptionID: p.take("kmskeyid")}
	if p.err != nil {
		return nil, p.err
	}
	config, err := gcaws.V2ConfigFromURLParams(ctx, p.query)
	if err != nil {
		return nil, err
	}
	if config.Region == "" && endpoint == "" {
		return nil, errors.New("no region: add it to the URL (?region=eu-north-1), or set AWS_REGION")
	}
	if config.Region == "" {
		config.Region = anyRegion
	}
	if endpoint != "" && !chosen {
		config.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		config.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	config.Logger = logging.Nop{} // errors say what there is to say
	options.RequestChecksumCalculation = config.RequestChecksumCalculation
	config.HTTPClient = impatient(config.HTTPClient)
	client := s3.NewFromConfig(config, func(o *s3.Options) {
		o.UsePathStyle, o.UseAccelerate, o.EndpointOptions.DisableHTTPS = pathStyle, accelerate, plainHTTP
	})
	return s3blob.OpenBucket(ctx, client, l.bucket, options)
}

// impatient is the client of a configuration, with its certificates and proxies,
// that gives up on what does not answer.
func impatient(client aws.HTTPClient) aws.HTTPClient {
	buildable, ok := client.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	return buildable.WithTransportOptions(func(t *http.Transport) {
		t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
		t.TLSHandshakeTimeout = 2 * dialTimeout
		t.ResponseHeaderTimeout = answerTimeout
	})
}

// s3Parameters takes what is known here out of a URL's parameters; the rest goes to
// the SDK's configuration, which refuses what it does not know.
type s3Parameters struct {
	query url.Values
	err   error
}

func (p *s3Parameters) take(key string) string {
	value := p.query.Get(key)
	p.query.Del(key)
	return value
}

// flag is true when any of the parameters is.
func (p *s3Parameters) flag(keys ...string) bool {
	var set bool
	for _, key := range keys {
		text := p.take(key)
		if text == "" {
			continue
		}
		value, err := strconv.ParseBool(text)
		if err != nil {
			p.err = fmt.Errorf("parameter %s of the URL is neither true nor false", key)
		}
		set = set || value
	}
	return set
}
