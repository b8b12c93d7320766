package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bojand/ghz/load"
	"github.com/bojand/ghz/runner"
	"github.com/jhump/protoreflect/desc"
	"github.com/jhump/protoreflect/dynamic"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const grpcWorkers = 4 // they only start calls: each call has a goroutine of its own

// legLength is how many calls one run of ghz makes. ghz keeps a record of every
// call but the first ones, for which it sets memory aside at the start; a run
// that ends with those needs no more, however long the traffic lasts.
const legLength = 20_000

// grpcSender sends one gRPC method by ghz, in legs. ghz numbers its calls in
// the order of its pacer, so request n is the pacer's n-th, counted over all
// legs; the number goes with the call as metadata, by which the watched policy
// reports back.
type grpcSender struct {
	desk   *desk
	script *Script
	method method
	legs   uint64 // calls of each
	input  *desc.MessageDescriptor
	id     uint64

	settling sync.WaitGroup // a count for each watched call

	mu    sync.Mutex
	calls map[uint64]*grpcCall
}

// grpcCall is one call under way.
type grpcCall struct {
	sent    time.Duration
	done    time.Duration
	err     error // of the last attempt
	ended   bool  // an attempt has ended and none has begun since
	trailer metadata.MD
	watched bool // its context is
}

// run sends until the pacer stops and every answer is in. Each leg is made, and
// connected, while the one before it sends.
func (s *grpcSender) run(p *pacer, addr string, timeout time.Duration) error {
	protos, err := s.describe()
	if err != nil {
		return err
	}
	s.id = watched.add(s)
	defer watched.remove(s.id)
	var legs sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	course := newCourse(p, s.legs)
	for first := uint64(0); course.await(first); first += s.legs {
		requester, err := s.leg(course, first, protos, addr, timeout)
		if err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
			break
		}
		legs.Go(func() {
			if _, err := requester.Run(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("send %s: %w", s.method.name, err))
			}
		})
	}
	legs.Wait()
	s.settling.Wait() // the contexts have ended; their reports may be on the way
	return errors.Join(errs...)
}

// leg makes the run of ghz that begins with a call.
func (s *grpcSender) leg(c *course, first uint64, protos []byte, addr string, timeout time.Duration) (*runner.Requester, error) {
	config, err := runner.NewConfig(s.method.name, addr,
		runner.WithInsecure(true),
		runner.WithProtosetBinary(protos),
		runner.WithDataProvider(func(call *runner.CallData) ([]*dynamic.Message, error) {
			return s.data(first + uint64(call.RequestNumber))
		}),
		runner.WithMetadataProvider(func(call *runner.CallData) (*metadata.MD, error) {
			n := first + uint64(call.RequestNumber)
			md := metadata.Pairs(callKey, callValue(s.id, n), traceHeader, trace(s.script.seed, s.desk.seq(n)))
			return &md, nil
		}),
		runner.WithDisableTemplateFuncs(true),
		runner.WithDisableTemplateData(true),
		runner.WithClientLoadBalancing(watchedPolicy),
		runner.WithPacer(&legPacer{course: c, next: first, end: first + s.legs}),
		runner.WithAsync(true), // open loop: a slow answer holds nothing up
		runner.WithConcurrency(grpcWorkers),
		runner.WithWorkerTicker(newCrew(grpcWorkers)),
		runner.WithConnections(1),
		runner.WithTimeout(timeout),
		runner.WithTotalRequests(uint(s.legs)),
		runner.WithSkipFirst(uint(s.legs)),
	)
	if err != nil {
		return nil, fmt.Errorf("set up ghz for %s: %w", s.method.name, err)
	}
	requester, err := runner.NewRequester(config)
	if err != nil {
		return nil, fmt.Errorf("set up ghz for %s: %w", s.method.name, err)
	}
	return requester, nil
}

// crew brings in ghz's workers, all at once. ghz's own way panics when a run is
// stopped before it has begun: there, one goroutine closes the channel that
// another is about to send on.
type crew chan load.TickValue

func newCrew(size int) crew {
	c := make(crew, 1)
	c <- load.TickValue{Delta: size, Done: true}
	return c
}

func (c crew) Ticker() <-chan load.TickValue { return c }
func (c crew) Run()                          {}
func (c crew) Finish()                       {}

// describe finds the method's input and packs its file for ghz.
func (s *grpcSender) describe() ([]byte, error) {
	file := s.method.message(draw(0, 0, 0), nil).ProtoReflect().Descriptor().ParentFile()
	set := &descriptorpb.FileDescriptorSet{}
	collect(file, map[string]bool{}, set)
	protos, err := proto.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("pack the protos of %s: %w", s.method.name, err)
	}
	files, err := desc.CreateFileDescriptorsFromSet(set)
	if err != nil {
		return nil, fmt.Errorf("read the protos of %s: %w", s.method.name, err)
	}
	name := s.method.message(draw(0, 0, 0), nil).ProtoReflect().Descriptor().FullName()
	for _, f := range files {
		if s.input = f.FindMessage(string(name)); s.input != nil {
			return protos, nil
		}
	}
	return nil, fmt.Errorf("the protos hold no message %s", name)
}

// collect adds a file after those it imports.
func collect(f protoreflect.FileDescriptor, seen map[string]bool, into *descriptorpb.FileDescriptorSet) {
	if seen[f.Path()] {
		return
	}
	seen[f.Path()] = true
	imports := f.Imports()
	for i := range imports.Len() {
		collect(imports.Get(i).FileDescriptor, seen, into)
	}
	into.File = append(into.File, protodesc.ToFileDescriptorProto(f))
}

// data makes the message of call n; it is the last thing before the call.
func (s *grpcSender) data(n uint64) ([]*dynamic.Message, error) {
	r, ok := s.desk.claim(n)
	if !ok {
		return nil, errors.New("a call that was not scheduled")
	}
	data, err := proto.Marshal(s.script.message(r.Seq, s.method))
	if err != nil {
		return nil, err
	}
	message := dynamic.NewMessage(s.input)
	if err := message.Unmarshal(data); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[n] = &grpcCall{sent: s.desk.now()}
	return []*dynamic.Message{message}, nil
}

// picked notes that an attempt of call n begins, or why it cannot. A call's
// context ends with the call, whatever became of it; that settles it.
func (s *grpcSender) picked(ctx context.Context, n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.calls[n]
	if !ok {
		return
	}
	c.ended = err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable)
	c.err, c.done, c.trailer = err, s.desk.now(), nil
	if !c.watched {
		c.watched = true
		s.settling.Add(1)
		context.AfterFunc(ctx, func() { s.settle(n, ctx.Err()) })
	}
}

// ended notes the end of an attempt of call n.
func (s *grpcSender) ended(n uint64, d balancer.DoneInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.calls[n]; ok {
		c.ended, c.err, c.done, c.trailer = true, d.Err, s.desk.now(), d.Trailer
	}
}

// settle takes call n back to the desk.
func (s *grpcSender) settle(n uint64, why error) {
	defer s.settling.Done()
	s.mu.Lock()
	c := *s.calls[n]
	delete(s.calls, n)
	s.mu.Unlock()
	if !c.ended { // given up before an attempt began or came to its end
		c.done = s.desk.now()
		c.err = status.FromContextError(why).Err()
	}
	s.desk.finish(n, c.sent, c.done, "", judgeGRPC(s.method.service, grpcError(c.err), c.trailer))
}

// grpcError gives an error of the picker the code that the call ends with.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}
