package engine

import (
	"fmt"

	"meshsim.dev/meshsim/clusters/fault"
)

// plan is what to do when no running engine is usable.
type plan int

const (
	impossible plan = iota
	start
	installAndStart
)

func (p plan) String() string {
	return [...]string{"impossible", "start", "install and start"}[p]
}

// facts is what the decision rests on.
type facts struct {
	why     string // why the host's engine is of no use
	linux   bool
	root    bool
	dockerd bool // dockerd, containerd and runc are installed
	apt     bool
}

// decide returns impossible together with the error to give the user.
func decide(f facts) (plan, error) {
	fail := func(mend string) (plan, error) {
		return impossible, fault.NewEnvironment(fmt.Errorf("no usable container engine: %s", f.why), mend)
	}
	switch {
	case !f.linux:
		return fail("start Docker and see that `docker run --privileged` works")
	case !f.root:
		return fail("start a Docker that runs privileged containers, or run meshsim as root on Debian or Ubuntu, where it starts a private engine")
	case f.dockerd:
		return start, nil
	case f.apt:
		return installAndStart, nil
	default:
		return fail("install Docker (dockerd, containerd and runc); as root meshsim then starts a private engine from them")
	}
}
