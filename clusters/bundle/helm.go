package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
// The archive must have the digest that the repository's index gives it.
func fetchChart(ctx context.Context, client *http.Client, c LockedChart, out string) error {
	temp, err := os.MkdirTemp(filepath.Dir(out), ".chart-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	base := strings.TrimSuffix(c.Pull, "/")
	text, err := get(ctx, client, base+"/index.yaml")
	if err != nil {
		return err
	}
	indexFile := filepath.Join(temp, "index.yaml")
	if err := os.WriteFile(indexFile, text, 0o644); err != nil {
		return err
	}
	index, err := repo.LoadIndexFile(indexFile)
	if err != nil {
		return fmt.Errorf("read the repository's index: %w", err)
	}
	entry, err := index.Get(c.Name, c.Version)
	if err != nil {
		return err
	}
	if len(entry.URLs) == 0 {
		return fmt.Errorf("the repository's index gives no address")
	}
	address, err := repo.ResolveReferenceURL(base, entry.URLs[0])
	if err != nil {
		return err
	}
	archive, err := get(ctx, client, address)
	if err != nil {
		return err
	}
	s := sha256.Sum256(archive)
	if got := hex.EncodeToString(s[:]); entry.Digest != "" && got != strings.TrimPrefix(entry.Digest, "sha256:") {
		return fmt.Errorf("%s has digest %s, not %s", address, got, entry.Digest)
	}
	if err := chartutil.Expand(temp, strings.NewReader(string(archive))); err != nil {
		return fmt.Errorf("unpack %s: %w", address, err)
	}
	if err := os.Remove(out); err != nil {
		return err
	}
	return os.Rename(filepath.Join(temp, c.Name), out)
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
