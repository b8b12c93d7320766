// Package contract holds the names that the stand-in shares with Linkerd
// stable-2.14: ports, labels, annotations, Secrets, environment variables.
package contract

// Version is what the stand-in says of itself wherever Linkerd would say its
// own version, so that nobody takes one for the other.
const Version = "fakemesh-0.1"

// ProxyUID is the user the proxy runs as; redirection leaves its traffic alone.
const ProxyUID = 2102

// Ports of an injected pod.
const (
	PortOutbound = 4140 // 127.0.0.1 only
	PortInbound  = 4143
	PortControl  = 4190
	PortAdmin    = 4191
)

// Names of containers, ports and volumes of an injected pod.
const (
	ContainerProxy = "linkerd-proxy"
	ContainerInit  = "linkerd-init"
	PortNameProxy  = "linkerd-proxy"
	PortNameAdmin  = "linkerd-admin"

	VolumeEndEntity  = "linkerd-identity-end-entity"
	VolumeToken      = "linkerd-identity-token"
	VolumeXtables    = "linkerd-proxy-init-xtables-lock"
	TokenAudience    = "identity.l5d.io"
	TokenExpiration  = 86400 // seconds
	MountEndEntity   = "/var/run/linkerd/identity/end-entity"
	MountToken       = "/var/run/secrets/tokens"
	TokenFile        = MountToken + "/linkerd-identity-token"
	TokenFileName    = "linkerd-identity-token"
	MountIssuer      = "/var/run/linkerd/identity/issuer"
	MountTrustRoots  = "/var/run/linkerd/identity/trust-roots"
	TrustRootsKey    = "ca-bundle.crt"
	MountWebhookTLS  = "/var/run/linkerd/tls"
	MountConfig      = "/var/run/linkerd/config"
	ConfigFile       = "values"
	SecretIssuer     = "linkerd-identity-issuer"
	ConfigTrustRoots = "linkerd-identity-trust-roots"
)

// Labels and annotations.
const (
	LabelControlPlaneNS        = "linkerd.io/control-plane-ns"
	LabelControlPlaneComponent = "linkerd.io/control-plane-component"
	LabelWorkloadNS            = "linkerd.io/workload-ns"
	LabelProxyOwnerPrefix      = "linkerd.io/proxy-" // + the owner's kind in lower case

	AnnotationCreatedBy    = "linkerd.io/created-by"
	AnnotationProxyVersion = "linkerd.io/proxy-version"
	AnnotationTrustRoot    = "linkerd.io/trust-root-sha256"
	AnnotationInject       = "linkerd.io/inject"

	InjectEnabled  = "enabled"
	InjectDisabled = "disabled"
	InjectIngress  = "ingress"

	config                     = "config.linkerd.io/"
	AnnotationDefaultPolicy    = config + "default-inbound-policy"
	AnnotationOpaquePorts      = config + "opaque-ports"
	AnnotationSkipInbound      = config + "skip-inbound-ports"
	AnnotationSkipOutbound     = config + "skip-outbound-ports"
	AnnotationProxyAwait       = config + "proxy-await"
	AnnotationGracePeriod      = config + "shutdown-grace-period"
	AnnotationCPURequest       = config + "proxy-cpu-request"
	AnnotationCPULimit         = config + "proxy-cpu-limit"
	AnnotationMemoryRequest    = config + "proxy-memory-request"
	AnnotationMemoryLimit      = config + "proxy-memory-limit"
	AnnotationLogLevel         = config + "proxy-log-level"
	AnnotationAlphaWaitSeconds = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
)

// Environment variables of the proxy. Those that Linkerd documents have its
// names; the others follow the same pattern.
const (
	EnvLog                 = "LINKERD2_PROXY_LOG"
	EnvTrustAnchors        = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
	EnvTrustDomain         = "LINKERD2_PROXY_IDENTITY_TRUST_DOMAIN"
	EnvLocalName           = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"
	EnvIdentityAddr        = "LINKERD2_PROXY_IDENTITY_SVC_ADDR"
	EnvIdentityName        = "LINKERD2_PROXY_IDENTITY_SVC_NAME"
	EnvTokenFile           = "LINKERD2_PROXY_IDENTITY_TOKEN_FILE"
	EnvDestinationAddr     = "LINKERD2_PROXY_DESTINATION_SVC_ADDR"
	EnvDestinationName     = "LINKERD2_PROXY_DESTINATION_SVC_NAME"
	EnvPolicyAddr          = "LINKERD2_PROXY_POLICY_SVC_ADDR"
	EnvPolicyName          = "LINKERD2_PROXY_POLICY_SVC_NAME"
	EnvDefaultPolicy       = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"
	EnvClusterNetworks     = "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS"
	EnvOpaquePorts         = "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"
	EnvSkipInbound         = "LINKERD2_PROXY_INBOUND_PORTS_SKIPPED"
	EnvProbes              = "LINKERD2_PROXY_INBOUND_AUTHORIZED_PROBES"
	EnvCores               = "LINKERD2_PROXY_CORES"
	EnvGracePeriod         = "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD"
	EnvPodName             = "_pod_name"
	EnvPodNamespace        = "_pod_ns"
	EnvPodIP               = "_pod_ip"
	EnvPodSA               = "_pod_sa"
	EnvPodNode             = "_pod_nodeName"
	EnvInboundConnTimeout  = "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT"
	EnvOutboundConnTimeout = "LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT"
)
