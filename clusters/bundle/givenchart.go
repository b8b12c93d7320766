package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"meshsim.dev/meshsim/clusters/fault"
)

// givenChart takes a chart from where the user says. Its files go into a folder
// of the cache that is named after them.
func (w *workshop) givenChart(ctx context.Context, n string, o Override, t http.RoundTripper) (fetched, error) {
	c, origin, err := w.openChart(ctx, n, o, t)
	if err != nil {
		return fetched{}, err
	}
	if err := checkGivenChart(n, c); err != nil {
		return fetched{}, fault.NewInvalid(err, "")
	}
	folder, digest, err := w.keepChart(n, c)
	if err != nil {
		return fetched{}, err
	}
	return fetched{folder: folder, chart: Chart{
		Name: n, Version: c.Metadata.Version, Digest: digest, Origin: origin, Source: o.From,
	}}, nil
}

func (w *workshop) openChart(ctx context.Context, n string, o Override, t http.RoundTripper) (c *chart.Chart, origin string, err error) {
	if o.path != "" {
		c, err = loader.Load(o.path)
		return c, OriginLocal, err
	}
	archive, err := w.chartArchive(ctx, n, o.From, t)
	if err != nil {
		return nil, "", err
	}
	c, err = loader.LoadArchive(bytes.NewReader(archive))
	return c, OriginPulled, err
}

// repoVersion parts a chart repository's address from the version behind it.
var repoVersion = regexp.MustCompile(`^(.+)@([^/@]+)$`)

// chartArchive fetches the .tgz of a chart.
func (w *workshop) chartArchive(ctx context.Context, n, from string, t http.RoundTripper) ([]byte, error) {
	client := &http.Client{Transport: t}
	if ref, ok := strings.CutPrefix(from, ociScheme); ok {
		return ociChart(ctx, ref, t)
	}
	if strings.HasSuffix(from, ".tgz") {
		return get(ctx, client, from)
	}
	wanted := LockedChart{Name: n, Pull: from}
	if m := repoVersion.FindStringSubmatch(from); m != nil {
		wanted.Pull, wanted.Version = m[1], m[2]
	} else if i := slices.IndexFunc(w.lock.Charts, func(c LockedChart) bool { return c.Name == n }); i >= 0 {
		wanted.Version = w.lock.Charts[i].Version
	}
	return repoChart(ctx, client, wanted)
}

// chartLayer is the media type of a chart in a registry.
const chartLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

// ociChart fetches a chart that was pushed to a registry.
func ociChart(ctx context.Context, given string, t http.RoundTripper) ([]byte, error) {
	ref, err := name.ParseReference(given)
	if err != nil {
		return nil, err
	}
	artifact, err := remoteImage(ctx, ref, t)
	if err != nil {
		return nil, err
	}
	layers, err := artifact.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if media, err := l.MediaType(); err != nil || media != chartLayer {
			continue
		}
		r, err := l.Compressed() // checks the digest as it is read
		if err != nil {
			return nil, err
		}
		defer r.Close()
		archive, err := io.ReadAll(io.LimitReader(r, maxChart+1))
		if err == nil && len(archive) > maxChart {
			err = fmt.Errorf("the chart is longer than %d bytes", maxChart)
		}
		return archive, err
	}
	return nil, errors.New("what is there is no Helm chart")
}

// checkGivenChart refuses a chart that is not the one it is given for, or that
// lacks the charts it is made of: it would render to something else.
func checkGivenChart(n string, c *chart.Chart) error {
	if c.Metadata == nil || c.Metadata.Name != n {
		return fmt.Errorf("the chart is %q, not %s", c.Name(), n)
	}
	for _, d := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(have *chart.Chart) bool { return have.Name() == d.Name }) {
			return fmt.Errorf("the chart lacks the chart %s that it is made of; `helm dependency build` puts it there", d.Name)
		}
	}
	return nil
}

// keepChart writes a chart's files below the cache, once for each content.
func (w *workshop) keepChart(n string, c *chart.Chart) (folder, digest string, err error) {
	parent := filepath.Join(w.cache.Build(), "chart-"+n+"-given")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", "", err
	}
	temp, err := os.MkdirTemp(w.cache.Bundles(), ".chart-*") // swept when this is killed
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(temp)
	for _, f := range c.Raw {
		if !filepath.IsLocal(f.Name) {
			return "", "", fmt.Errorf("the chart has a file %q outside of it", f.Name)
		}
		if err := writeBelow(temp, f.Name, f.Data, 0o644); err != nil {
			return "", "", err
		}
	}
	if digest, err = treeDigest(temp); err != nil {
		return "", "", err
	}
	folder = filepath.Join(parent, strings.TrimPrefix(digest, "sha256:")[:16])
	if _, err := os.Stat(folder); err == nil {
		return folder, digest, nil
	}
	return folder, digest, os.Rename(temp, folder)
}
