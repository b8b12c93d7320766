package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/template"

	"meshsim.dev/meshsim/test/loopmesh"
)

// nginx is the pair of nginx that does what a pair of proxies does: the front
// begins mutual TLS, the back ends it. Certificates are of the mesh's issuer.
type nginx struct {
	front, back *program
	addr        netip.Addr // of the front
}

// The ports of both.
const (
	nginxHTTP, nginxGRPC, nginxTCP = 8080, 9090, 9000
)

var errNoNginx = errors.New("nginx with its stream module is not here")

// findNginx gives the program and its module for TCP.
func findNginx(root string) (program, module string, err error) {
	at := []string{"/"}
	if root != "" {
		if root, err = filepath.Abs(root); err != nil {
			return "", "", fmt.Errorf("find nginx: %w", err)
		}
		at = []string{root, "/"}
	}
	for _, root := range at {
		program, module = filepath.Join(root, "usr/sbin/nginx"), filepath.Join(root, "usr/lib/nginx/modules/ngx_stream_module.so")
		_, errP := os.Stat(program)
		_, errM := os.Stat(module)
		if errP == nil && errM == nil {
			return program, module, nil
		}
	}
	return "", "", errNoNginx
}

// nginxConfig is what both configurations are made of.
type nginxConfig struct {
	Dir, Module, Workers   string
	Front, Back            netip.Addr
	HTTP, GRPC, TCP        int
	Web, Opaque            netip.AddrPort // the application
	CA, Cert, Key, Backend string
}

// Both sides keep their connections, make a full handshake for each new one,
// and take the same cipher and curve as Go does.
const nginxCommon = `
daemon off;
worker_processes {{.Workers}};
pid {{.Dir}}/nginx.pid;
error_log stderr warn;
load_module {{.Module}};
events { worker_connections 4096; }
`

const nginxTemp = `
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_buffering off;
  client_body_temp_path {{.Dir}}/body;
  proxy_temp_path {{.Dir}}/proxy;
  fastcgi_temp_path {{.Dir}}/fastcgi;
  uwsgi_temp_path {{.Dir}}/uwsgi;
  scgi_temp_path {{.Dir}}/scgi;
`

var nginxFront = template.Must(template.New("front").Parse(nginxCommon + `
{{define "tls"}}
      {{.}}_ssl_protocols TLSv1.3;
      {{.}}_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
      {{.}}_ssl_conf_command Groups P-256;
      {{.}}_ssl_session_reuse off;
      {{.}}_ssl_verify on;
{{end}}
http {` + nginxTemp + `
  upstream web { server {{.Back}}:{{.HTTP}}; keepalive 128; keepalive_requests 100000000; }
  upstream rpc { server {{.Back}}:{{.GRPC}}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen {{.Front}}:{{.HTTP}};
    location / {
      proxy_pass https://web;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_ssl_certificate {{.Cert}};
      proxy_ssl_certificate_key {{.Key}};
      proxy_ssl_trusted_certificate {{.CA}};
      proxy_ssl_name {{.Backend}};
      {{template "tls" "proxy"}}
    }
  }
  server {
    listen {{.Front}}:{{.GRPC}} http2;
    location / {
      grpc_pass grpcs://rpc;
      grpc_ssl_certificate {{.Cert}};
      grpc_ssl_certificate_key {{.Key}};
      grpc_ssl_trusted_certificate {{.CA}};
      grpc_ssl_name {{.Backend}};
      {{template "tls" "grpc"}}
    }
  }
}
stream {
  server {
    listen {{.Front}}:{{.TCP}};
    proxy_pass {{.Back}}:{{.TCP}};
    proxy_ssl on;
    proxy_ssl_certificate {{.Cert}};
    proxy_ssl_certificate_key {{.Key}};
    proxy_ssl_trusted_certificate {{.CA}};
    proxy_ssl_name {{.Backend}};
    {{template "tls" "proxy"}}
  }
}
`))

var nginxBack = template.Must(template.New("back").Parse(nginxCommon + `
{{define "tls"}}
  ssl_certificate {{.Cert}};
  ssl_certificate_key {{.Key}};
  ssl_client_certificate {{.CA}};
  ssl_verify_client on;
  ssl_verify_depth 2;
  ssl_protocols TLSv1.3;
  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
  ssl_ecdh_curve prime256v1;
  ssl_session_cache off;
  ssl_session_tickets off;
{{end}}
http {` + nginxTemp + `
  {{template "tls" .}}
  upstream web { server {{.Web}}; keepalive 128; keepalive_requests 100000000; }
  upstream rpc { server {{.Web}}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen {{.Back}}:{{.HTTP}} ssl;
    location / { proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
  server {
    listen {{.Back}}:{{.GRPC}} ssl http2;
    location / { grpc_pass grpc://rpc; }
  }
}
stream {
  {{template "tls" .}}
  server {
    listen {{.Back}}:{{.TCP}} ssl;
    proxy_pass {{.Opaque}};
  }
}
`))

// startNginx starts the pair in front of the application.
func startNginx(ctx context.Context, m *loopmesh.Mesh, o options, dir string, web, opaque netip.AddrPort) (*nginx, error) {
	program, module, err := findNginx(o.nginxRoot)
	if err != nil {
		return nil, err
	}
	n := &nginx{addr: m.Addr(3, 1)}
	workers := "auto"
	if o.cores > 0 {
		workers = strconv.Itoa(o.cores)
	}
	c := nginxConfig{
		Module: module, Workers: workers, Front: n.addr, Back: m.Addr(3, 2), HTTP: nginxHTTP, GRPC: nginxGRPC, TCP: nginxTCP,
		Web: web, Opaque: opaque, Backend: loopmesh.IdentityOf("nginx-back"),
	}
	if n.back, err = c.start(m, program, filepath.Join(dir, "nginx-back"), nginxBack); err != nil {
		return nil, err
	}
	if n.front, err = c.start(m, program, filepath.Join(dir, "nginx-front"), nginxFront); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	for _, addr := range []netip.Addr{c.Front, c.Back} {
		for _, port := range []uint16{nginxHTTP, nginxGRPC, nginxTCP} {
			if err := awaitListening(ctx, netip.AddrPortFrom(addr, port)); err != nil {
				return nil, errors.Join(err, n.stop())
			}
		}
	}
	return n, nil
}

func (c nginxConfig) start(m *loopmesh.Mesh, program, dir string, t *template.Template) (*program, error) {
	name := filepath.Base(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder for %s: %w", name, err)
	}
	cert, err := m.Leaf(name)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	c.CA, c.Cert, c.Key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := writePair(c.Cert, c.Key, cert); err != nil {
		return nil, fmt.Errorf("write the certificate of %s: %w", name, err)
	}
	if err := os.WriteFile(c.CA, m.Anchor(), 0o644); err != nil {
		return nil, fmt.Errorf("write the anchor of %s: %w", name, err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, c); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", name, err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, text.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", name, err)
	}
	return startProcess(name, exec.Command(program, "-p", dir, "-c", conf, "-e", "stderr"))
}

func writePair(certFile, keyFile string, cert *tls.Certificate) error {
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, chain, 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func (n *nginx) stop() error {
	var errs []error
	for _, p := range []*program{n.front, n.back} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(errs...)
}
