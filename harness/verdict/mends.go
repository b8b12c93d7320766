package verdict

import "meshsim.dev/meshsim/results"

// Kinds of causes.
const (
	causeDrain       = "drain"       // pods stopped while requests were on their way
	causeRestart     = "restart"     // a container died
	causeNotReady    = "not-ready"   // pods that were not ready
	causeNoProxy     = "no-proxy"    // a caller without a proxy was refused
	causePolicy      = "policy"      // refused by the mesh's policy
	causeCertificate = "certificate" // a TLS handshake failed
	causeDatabase    = "database"
	causeNode        = "node"
	causeSaturation  = "saturation" // more came than could be served
	causeSender      = "sender"
	causeHost        = "host"       // slow: the rehearsal's own machine had no CPU to spare
	causeColdStart   = "cold-start" // slow: a pod had only just begun
	causeDetection   = "detection"  // slow: a proxy waited for a protocol it could not tell
	causeVersion     = "version"    // one version fails what others serve
	causeUnknown     = "unknown"
)

// remedy is what is said of a cause beside its evidence: what to do, and the id
// of what breaks like this in a rollout.
type remedy struct{ mend, mode string }

// The ids are those of docs/report.md.
var remedies = map[string]remedy{
	causeDrain:      {"after SIGTERM keep serving until no endpoint points at the pod: drain < proxy wait < grace period", "R1"},
	"grace":         {"make the grace period longer than what the proxy waits", "R2"},
	"memory":        {"raise the memory limit", "O7"},
	causeRestart:    {"read the log of the container before its restart", ""},
	causeNotReady:   {"keep enough ready pods: maxUnavailable 0, readiness that tells the truth", "O9"},
	causeNoProxy:    {"give every caller its proxy, and enforce only after a whole day of traffic without an unencrypted call", "P1"},
	causePolicy:     {"name the caller's identity in an authorization of the called port, and try it with a server-side dry run", "P6"},
	"unenforced":    {"put the authorization in place before its Server: a Server without one refuses everybody", "P5"},
	"anchor":        {"compare the proxies' trust anchors with the issuer's chain; rotate by old and new anchors together", "I1"},
	"expired":       {"keep identity running in several replicas, and renew well before a leaf's end", "I5"},
	"clock":         {"set the nodes' clocks by NTP, or allow for more skew", "I6"},
	causeDatabase:   {"read the database's log of that time", ""},
	"pool":          {"tighten policy in a quiet window: it cuts the database's pooled connections", "P7"},
	"connections":   {"give the services' pools more connections, or find what holds them", ""},
	causeNode:       {"spread replicas over nodes and zones, and give callers a timeout of their own", "O4"},
	causeSaturation: {"leave headroom: more replicas before the peak, requests and limits for the proxy", "O7"},
	causeSender:     {"give the machine that sends more room, or send less", ""},
	causeHost:       {"give the rehearsal more CPUs, or compress its day less (traffic.compressTo): this says nothing about the shop", ""},
	causeColdStart:  {"let readiness wait until the pod is warm, and roll one pod at a time", ""},
	causeVersion:    {"shift the route's weight back to the version that serves, and end the canary", ""},
	causeDetection:  {"declare the port opaque, or its protocol", "R10"},
}

// remedied fills in what belongs to a kind, or to a narrower name for it.
func (b *blame) remedied(name string) {
	r := remedies[name]
	b.mend, b.mode = r.mend, r.mode
}

// brokenClasses are what a request gets when nobody serves it any more, or not
// yet.
var brokenClasses = []string{
	results.ClassConnectRefused, results.ClassReset, results.ClassEOF, results.ClassTimeout, "http-502", "http-503", "http-504",
	"grpc-UNAVAILABLE", "grpc-DEADLINE_EXCEEDED", "grpc-CANCELLED", "grpc-UNKNOWN",
}

var deniedClasses = []string{results.ClassPolicyDenied, "http-403", "grpc-PERMISSION_DENIED"}
