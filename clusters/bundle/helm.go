package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/repo"
)

// maxChart bounds what a chart repository may answer, in bytes.
const maxChart = 64 << 20

// fetchChart takes one chart from its Helm repository and unpacks it into out.
func fetchChart(ctx context.Context, client *http.Client, c LockedChart, out string) error {
	temp, err := os.MkdirTemp(filepath.Dir(out), ".chart-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	archive, err := repoChart(ctx, client, c)
	if err != nil {
		return err
	}
	if err := chartutil.Expand(temp, bytes.NewReader(archive)); err != nil {
		return fmt.Errorf("unpack the chart: %w", err)
	}
	if err := os.Remove(out); err != nil {
		return err
	}
	return os.Rename(filepath.Join(temp, c.Name), out)
}

// repoChart fetches a chart's archive from its Helm repository. It must have
// the digest that the repository's index gives it.
func repoChart(ctx context.Context, client *http.Client, c LockedChart) ([]byte, error) {
	base := strings.TrimSuffix(c.Pull, "/")
	index, err := repoIndex(ctx, client, base)
	if err != nil {
		return nil, err
	}
	entry, err := index.Get(c.Name, c.Version)
	if err != nil {
		return nil, fmt.Errorf("find %s %s in the repository: %w", c.Name, c.Version, err)
	}
	if len(entry.URLs) == 0 {
		return nil, fmt.Errorf("the repository's index gives no address")
	}
	address, err := repo.ResolveReferenceURL(base, entry.URLs[0])
	if err != nil {
		return nil, err
	}
	archive, err := get(ctx, client, address)
	if err != nil {
		return nil, err
	}
	s := sha256.Sum256(archive)
	if got := hex.EncodeToString(s[:]); entry.Digest != "" && got != strings.TrimPrefix(entry.Digest, "sha256:") {
		return nil, fmt.Errorf("%s has digest %s, not %s", address, got, entry.Digest)
	}
	return archive, nil
}

// repoIndex reads what a repository has. Helm's loader wants it in a file.
func repoIndex(ctx context.Context, client *http.Client, base string) (*repo.IndexFile, error) {
	text, err := get(ctx, client, base+"/index.yaml")
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "meshsim-index-*.yaml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	index, err := repo.LoadIndexFile(f.Name())
	if err != nil {
		return nil, fmt.Errorf("read the repository's index: %w", err)
	}
	return index, nil
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxChart+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", address, err)
	}
	if len(text) > maxChart {
		return nil, fmt.Errorf("GET %s: longer than %d bytes", address, maxChart)
	}
	return text, nil
}
