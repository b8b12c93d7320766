package engine

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// WrapperName is the name under which the meshsim executable is an OCI runtime:
// main calls RunOCI when the base of argv[0] is this.
const WrapperName = "meshsim-oci-runtime"

// A program that is to serve as wrapper is asked first whether it does.
const (
	handshakeFlag   = "--meshsim-handshake"
	handshakeAnswer = WrapperName + " ready"
)

// RunOCI stands in for runc on a host that holds capabilities back: it takes
// out of the container's config what the host cannot give, then becomes runc.
// argv is the whole command line. It returns, with an exit code, only on failure.
func RunOCI(argv []string) int {
	if len(argv) == 2 && argv[1] == handshakeFlag {
		fmt.Println(handshakeAnswer)
		return 0
	}
	call := parseRuntimeCall(argv)
	err := prepareAndExec(argv, call)
	// An engine shows what stands in the log it named, a person what is on stderr.
	fmt.Fprintf(os.Stderr, "%s: %v\n", WrapperName, err)
	call.logError(err)
	return 1
}

func prepareAndExec(argv []string, call runtimeCall) error {
	if call.file != "" {
		if err := editFile(call.file, call.wholeSpec); err != nil {
			return err
		}
	}
	runc, err := findRunc()
	if err != nil {
		return err
	}
	return fmt.Errorf("become %s: %w", runc, syscall.Exec(runc, slices.Concat([]string{runc}, argv[1:]), os.Environ()))
}

// runtimeCall is what the wrapper needs to know of a runc command line.
type runtimeCall struct {
	command   string
	file      string // the JSON file to edit; "" when there is none
	wholeSpec bool   // the file is a config.json, else a process object
	log       string // where runc would write its log
}

// valueFlags are runc's flags that take the next argument, before and after the command.
var valueFlags = []string{
	"root", "log", "log-format", "criu", "rootless",
	"bundle", "b", "console-socket", "pid-file", "preserve-fds",
	"process", "p", "cwd", "env", "e", "user", "u", "additional-gids", "g",
	"process-label", "apparmor", "cap", "c", "cgroup",
}

// parseRuntimeCall reads argv as runc does. What it does not know it leaves alone.
func parseRuntimeCall(argv []string) runtimeCall {
	var call runtimeCall
	flags := map[string]string{}
	for i := 1; i < len(argv); i++ {
		arg := argv[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if call.command == "" {
				call.command = arg
				continue
			}
			break // the container's id; what follows belongs to the container
		}
		name, value, has := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !has && slices.Contains(valueFlags, name) && i+1 < len(argv) {
			i++
			value = argv[i]
		}
		flags[name] = value
	}
	call.log = flags["log"]
	switch call.command {
	case "create", "run", "restore":
		call.wholeSpec = true
		call.file = filepath.Join(firstOf(flags["bundle"], flags["b"], "."), "config.json")
	case "exec":
		call.file = firstOf(flags["process"], flags["p"])
	}
	return call
}

func (c runtimeCall) logError(cause error) {
	if c.log == "" {
		return
	}
	line, err := json.Marshal(map[string]string{"level": "error", "msg": cause.Error(), "time": time.Now().Format(time.RFC3339)})
	if err != nil {
		return
	}
	f, err := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	_, _ = f.Write(append(line, '\n'))
	_ = f.Close()
}

// editFile edits a config.json or process file in its place.
func editFile(path string, wholeSpec bool) error {
	held, err := heldBack("/proc")
	if err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edit := editProcess
	if wholeSpec {
		edit = editSpec
	}
	after, err := edit(before, held)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replaceFile(path, after)
}

func heldBack(proc string) (holdBack, error) {
	missing, err := MissingCapabilities(proc)
	if err != nil {
		return holdBack{}, err
	}
	held := holdBack{capabilities: missing}
	if text, err := os.ReadFile(filepath.Join(proc, "self/oom_score_adj")); err == nil {
		held.oomScoreAdj, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return held, nil
}

// replaceFile writes beside path and renames, so that no reader sees half a file.
func replaceFile(path string, data []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), mode)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// findRunc also looks where a daemon's short PATH may not.
func findRunc() (string, error) {
	if path, err := exec.LookPath("runc"); err == nil {
		return path, nil
	}
	for _, dir := range systemDirs {
		path := filepath.Join(dir, "runc")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("runc is neither on PATH nor in %s", strings.Join(systemDirs, ", "))
}

var systemDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
