package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/command"
)

// probeExit is the code the probe program ends with: proof that it ran.
const probeExit = 42

// Label marks every container, image and volume that meshsim makes outside a cluster.
const Label = "meshsim.dev/engine"

const probeTimeout = time.Minute

// probe runs a privileged container the way a node is run and removes it again.
func (m *manager) probe(ctx context.Context, e *Engine) error {
	program, err := probeProgram(runtime.GOARCH)
	if err != nil {
		return err
	}
	name := "meshsim-probe-" + strings.ToLower(rand.Text()[:10])
	image, err := imageOf(program)
	if err != nil {
		return err
	}
	run, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	load := e.Docker("import", "-", name+":probe")
	load.Stdin = bytes.NewReader(image)
	// The cleaning must also happen when ctx has ended.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		for _, args := range [][]string{{"rm", "-f", "-v", name}, {"image", "rm", "-f", name + ":probe"}} {
			if _, err := m.Runner.Run(clean, e.Docker(args...)); err != nil {
				m.Log.Debug("clean up after the probe", "err", err)
			}
		}
	}()
	if _, err := m.Runner.Run(run, load); err != nil {
		return fmt.Errorf("import the probe's image: %w", err)
	}
	_, err = m.Runner.Run(run, e.Docker("run", "--name", name, "--label", Label+"=probe", "--network", "none",
		"--privileged", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		"--cgroupns=private", "--tmpfs", "/run", "--volume", "/var", name+":probe", "/probe"))
	if ce, ok := errors.AsType[*command.Error](err); ok && ce.ExitCode == probeExit {
		return nil
	}
	if err == nil {
		return fmt.Errorf("the probe ended with 0, not %d", probeExit)
	}
	return fmt.Errorf("run a privileged container: %w", err)
}

// imageOf packs the program as the only file of a root filesystem.
func imageOf(program []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(program)), Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// probeProgram is the smallest Linux program there is: it exits with probeExit.
// So the probe neither needs an image from a registry nor a static build of meshsim.
func probeProgram(arch string) ([]byte, error) {
	var machine uint16
	var code []byte
	switch arch {
	case "amd64":
		machine = 62
		code = []byte{
			0xbf, probeExit, 0, 0, 0, // mov edi, 42
			0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
			0x0f, 0x05, // syscall
		}
	case "arm64":
		machine = 183
		code = binary.LittleEndian.AppendUint32(code, 0xd2800000|probeExit<<5) // mov x0, #42
		code = binary.LittleEndian.AppendUint32(code, 0xd2800000|93<<5|8)      // mov x8, #93 (exit)
		code = binary.LittleEndian.AppendUint32(code, 0xd4000001)              // svc #0
	default:
		return nil, fmt.Errorf("no probe program for %s", arch)
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(base + headers), uint64(64), uint64(0), // executable, entry, program headers
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x10000), // one loaded segment, read and execute
	} {
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			return nil, err
		}
	}
	b.Write(code)
	return b.Bytes(), nil
}

// probed is the server on which privileged containers ran, so that a warm start
// does not probe again.
type probed struct {
	ID   string `json:"id"`
	Boot string `json:"boot"`
}

// probeRemembered tells whether the probe went well on this server since this
// boot. A bad answer is never remembered: what was wrong may have been mended.
func (m *manager) probeRemembered(id string) bool {
	data, err := os.ReadFile(m.paths.probe)
	if err != nil {
		return false
	}
	var p probed
	return json.Unmarshal(data, &p) == nil && p == probed{ID: id, Boot: m.bootID()}
}

func (m *manager) rememberProbe(id string) {
	data, err := json.Marshal(probed{ID: id, Boot: m.bootID()})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(m.paths.probe), 0o700)
	}
	if err == nil {
		err = replaceFile(m.paths.probe, data)
	}
	if err != nil {
		m.Log.Debug("remember the probe", "err", err)
	}
}

func (m *manager) bootID() string {
	data, _ := os.ReadFile(filepath.Join(m.host.proc, "sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(data))
}
