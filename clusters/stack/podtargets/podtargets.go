// Package podtargets tells Prometheus which pods there are. It stands in for
// Prometheus's own Kubernetes discovery, which Debian builds without: the same
// labels, given by HTTP service discovery.
package podtargets

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Group is one target with its labels, as HTTP service discovery wants it.
type Group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// podList is what is read of the API server's answer.
type podList struct {
	Items []pod `json:"items"`
}

type pod struct {
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		NodeName   string      `json:"nodeName"`
		Containers []container `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
		PodIP string `json:"podIP"`
	} `json:"status"`
}

type container struct {
	Name  string `json:"name"`
	Ports []struct {
		Name     string `json:"name"`
		Port     int    `json:"containerPort"`
		Protocol string `json:"protocol"`
	} `json:"ports"`
}

// Groups turns the API server's list of pods (JSON) into targets: one for each
// port that a container declares, labelled as Prometheus's pod role does.
func Groups(list []byte) ([]Group, error) {
	var pods podList
	if err := json.Unmarshal(list, &pods); err != nil {
		return nil, fmt.Errorf("read the list of pods: %w", err)
	}
	groups := []Group{} // never null: Prometheus would refuse it
	for _, p := range pods.Items {
		if p.Status.PodIP == "" {
			continue
		}
		for _, c := range p.Spec.Containers {
			groups = append(groups, p.groups(c)...)
		}
	}
	return groups, nil
}

func (p pod) groups(c container) []Group {
	var groups []Group
	for _, port := range c.Ports {
		number := strconv.Itoa(port.Port)
		labels := map[string]string{
			meta + "namespace":                   p.Metadata.Namespace,
			meta + "pod_name":                    p.Metadata.Name,
			meta + "pod_ip":                      p.Status.PodIP,
			meta + "pod_phase":                   p.Status.Phase,
			meta + "pod_node_name":               p.Spec.NodeName,
			meta + "pod_container_name":          c.Name,
			meta + "pod_container_port_name":     port.Name,
			meta + "pod_container_port_number":   number,
			meta + "pod_container_port_protocol": port.Protocol,
		}
		for key, value := range p.Metadata.Labels {
			labels[meta+"pod_label_"+labelName(key)] = value
		}
		for key, value := range p.Metadata.Annotations {
			labels[meta+"pod_annotation_"+labelName(key)] = value
		}
		groups = append(groups, Group{Targets: []string{net.JoinHostPort(p.Status.PodIP, number)}, Labels: labels})
	}
	return groups
}

const meta = "__meta_kubernetes_"

// labelName makes a Kubernetes key a Prometheus label's name.
func labelName(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, key)
}

// Source reads the pods from an API server.
type Source struct {
	URL       string // https://host:port
	TokenFile string // read for each request: the kubelet renews it
	HTTP      *http.Client
}

// accountFolder is where a pod finds its service account.
const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster is the API server as a pod finds it by its environment.
func InCluster(getenv func(string) string) (*Source, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this runs in a pod")
	}
	pem, err := os.ReadFile(filepath.Join(accountFolder, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the cluster's CA: no certificate in %s", accountFolder)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return &Source{
		URL:       "https://" + net.JoinHostPort(host, port),
		TokenFile: filepath.Join(accountFolder, "token"),
		HTTP:      &http.Client{Transport: transport, Timeout: 10 * time.Second},
	}, nil
}

// maxList bounds what is read of a list: some thousand pods.
const maxList = 64 << 20

// List asks for all pods. The API server answers from its cache.
func (s *Source) List(ctx context.Context) ([]byte, error) {
	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account's token: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/pods?resourceVersion=0", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("list pods: the API server answers %s", resp.Status)
	}
	return body, nil
}

// Handler answers GET /targets. When the API server cannot be asked it answers
// 503, and Prometheus keeps the targets it has.
func Handler(s *Source, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /targets", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.List(r.Context())
		var groups []Group
		if err == nil {
			groups, err = Groups(list)
		}
		if err != nil {
			log.Warn("no targets", "error", err)
			http.Error(w, "no targets", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(groups) // the client went: nothing to tell
	})
	return mux
}
