package vaultapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// KVMetadata is what a kv-v2 engine says of a secret without its values.
type KVMetadata struct {
	Version int       // of the newest, counted from 1
	Written time.Time // when that was, by Vault's clock
	// Custom is what its keepers wrote beside it.
	Custom map[string]string
}

// KVMetadata reads what is known of the secret at path, below a kv-v2 mount. A
// newest version that was deleted is an error: nobody can read the secret.
func (c *Client) KVMetadata(ctx context.Context, mount, path string) (KVMetadata, error) {
	var answer struct {
		Data struct {
			Current  int               `json:"current_version"`
			Custom   map[string]string `json:"custom_metadata"`
			Versions map[string]struct {
				Created   time.Time `json:"created_time"`
				Deleted   string    `json:"deletion_time"`
				Destroyed bool      `json:"destroyed"`
			} `json:"versions"`
		} `json:"data"`
	}
	path = mount + "/metadata/" + path
	if err := c.Do(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return KVMetadata{}, err
	}
	newest, ok := answer.Data.Versions[strconv.Itoa(answer.Data.Current)]
	switch {
	case !ok || newest.Created.IsZero():
		return KVMetadata{}, errors.New("vault GET " + path + ": the answer has no newest version")
	case newest.Destroyed || newest.Deleted != "":
		return KVMetadata{}, errors.New("vault GET " + path + ": the newest version is deleted")
	}
	return KVMetadata{Version: answer.Data.Current, Written: newest.Created, Custom: answer.Data.Custom}, nil
}
