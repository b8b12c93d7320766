package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
)

// Reviewer asks Kubernetes whose token that is.
type Reviewer interface {
	TokenReview(ctx context.Context, token, audience string) (username string, err error)
}

// Recorder writes the events of the contract.
type Recorder interface {
	// Issuer tells of the issuer itself; warning or not.
	Issuer(warning bool, reason, message string)
	// Issued tells that a service account got a leaf.
	Issued(id meshid.ID, message string)
}

// Reasons of events.
const (
	ReasonUpdated          = "IssuerUpdated"
	ReasonUpdateSkipped    = "IssuerUpdateSkipped"
	ReasonValidationFailed = "IssuerValidationFailed"
	ReasonIssued           = "IssuedLeafCertificate"
)

// Options say how Service works.
type Options struct {
	IssuerDir string
	Scheme    Scheme // "" is SchemeKubernetes
	Roots     *x509.CertPool
	Mesh      meshid.Mesh
	Validity  Validity
	Reviewer  Reviewer
	Recorder  Recorder
	Log       *slog.Logger
	Now       func() time.Time
}

// Service signs certificates with the newest good issuer.
type Service struct {
	meshapi.UnimplementedIdentityServer
	o Options

	mu      sync.Mutex
	issuer  *Issuer
	own     *tls.Certificate
	ownFrom *Issuer // what own was signed with
}

// NewService reads the issuer; an unusable one is an error and an event.
func NewService(o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{o: o}
	issuer, err := LoadIssuer(o.IssuerDir, o.Scheme, o.Roots, o.Validity.ClockSkew, o.Now())
	if err != nil {
		o.Recorder.Issuer(true, ReasonValidationFailed, err.Error())
		return nil, fmt.Errorf("load the issuer: %w", err)
	}
	s.issuer = issuer
	return s, nil
}

// Reload reads the issuer again and takes it when it is good; a bad one is
// told by an event and the old one stays.
func (s *Service) Reload() {
	issuer, err := LoadIssuer(s.o.IssuerDir, s.o.Scheme, s.o.Roots, s.o.Validity.ClockSkew, s.o.Now())
	if err != nil {
		s.o.Log.Warn("the new issuer is not used", "error", err)
		s.o.Recorder.Issuer(true, ReasonValidationFailed, err.Error())
		s.o.Recorder.Issuer(true, ReasonUpdateSkipped, "skipping the issuer update: "+err.Error())
		return
	}
	s.mu.Lock()
	same := s.issuer.cert.Equal(issuer.cert)
	s.issuer = issuer
	s.mu.Unlock()
	if same {
		return
	}
	s.o.Log.Info("issuer updated", "until", issuer.cert.NotAfter.UTC())
	s.o.Recorder.Issuer(false, ReasonUpdated, "the issuer was updated")
}

func (s *Service) current() *Issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issuer
}

// Certify implements the Identity service.
func (s *Service) Certify(ctx context.Context, req *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
	name := req.GetIdentity()
	id, err := meshid.Parse(name, s.o.Mesh)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	pub, err := checkRequest(req.GetCertificateSigningRequest(), name)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.authenticate(ctx, req.GetToken(), id); err != nil {
		return nil, err
	}
	issuer := s.current()
	cert, err := issuer.Sign(name, pub, s.o.Validity, s.o.Now())
	if err != nil {
		s.o.Log.Error("no certificate issued", "identity", name, "error", err)
		return nil, status.Error(codes.Internal, "the issuer cannot sign")
	}
	until := cert.NotAfter.UTC()
	s.o.Recorder.Issued(id, fmt.Sprintf("issued a certificate for %s until %s: %x",
		name, until.Format(time.RFC3339), sha256.Sum256(cert.Raw)))
	s.o.Log.Info("certificate issued", "identity", name, "until", until)
	return &meshapi.CertifyResponse{Leaf: cert.Raw, Intermediates: issuer.chain, ValidUntil: timestamppb.New(until)}, nil
}

func (s *Service) authenticate(ctx context.Context, token []byte, id meshid.ID) error {
	if len(token) == 0 {
		return status.Error(codes.Unauthenticated, "no token")
	}
	user, err := s.o.Reviewer.TokenReview(ctx, string(token), contract.TokenAudience)
	if errors.Is(err, kubeapi.ErrUnauthenticated) {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if err != nil {
		s.o.Log.Warn("a token could not be reviewed", "error", err)
		return status.Error(codes.Unavailable, "the token could not be reviewed")
	}
	owner, err := meshid.FromUsername(user)
	if err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if owner != id {
		return status.Errorf(codes.PermissionDenied, "the token belongs to %s, the request is for %s",
			owner.Name(s.o.Mesh), id.Name(s.o.Mesh))
	}
	return nil
}

// ServerCertificate is the service's own leaf, which callers verify against
// their anchors before they show their token. It is made anew when it has
// passed 70 % of its life or the issuer changed.
func (s *Service) ServerCertificate(name string) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	if s.own != nil && s.ownFrom == s.issuer {
		left := s.own.Leaf.NotAfter.Sub(now)
		if left > s.o.Validity.Lifetime*3/10 || s.own.Leaf.NotAfter.Equal(s.issuer.cert.NotAfter) {
			return s.own, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	cert, err := s.issuer.Sign(name, &key.PublicKey, s.o.Validity, now)
	if err != nil {
		return nil, err
	}
	s.own = &tls.Certificate{Certificate: append([][]byte{cert.Raw}, s.issuer.chain...), PrivateKey: key, Leaf: cert}
	s.ownFrom = s.issuer
	return s.own, nil
}
