package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/catalog"
	"meshsim.dev/meshsim/fakeshop/configurator"
	"meshsim.dev/meshsim/fakeshop/customers"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/peer"
	"meshsim.dev/meshsim/fakeshop/recommend"
	"meshsim.dev/meshsim/fakeshop/secrets"
	"meshsim.dev/meshsim/fakeshop/server"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/store"
)

// tools are what a service is built with.
type tools struct {
	set     settings
	db      *store.DB
	dial    func(service string) *grpc.ClientConn
	secrets *secrets.Keeper
	metrics prometheus.Registerer
	log     *slog.Logger
	// background runs until the service has stopped.
	background func(func(context.Context))
	// atEnd is called when the last request is answered.
	atEnd func(func(context.Context))
}

// builders make the services by name.
var builders = map[string]func(tools) *server.App{
	catalog.Name: func(t tools) *server.App {
		s := catalog.New(store.Catalog{DB: t.db}, catalog.Peers{
			Inventory: shopapi.NewInventoryManagementClient(t.dial(inventory.Name)),
			Recommend: shopapi.NewRecommendationServiceClient(t.dial(recommend.Name)),
		}, t.log)
		return &server.App{REST: s.REST(), EdgeMethods: catalog.EdgeMethods,
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterProductCatalogServer(r, s.GRPC()) }}
	},
	inventory.Name: func(t tools) *server.App {
		s := inventory.New(store.Inventory{DB: t.db}, shopapi.NewOrderProcessingClient(t.dial(orders.Name)),
			inventory.Options{Keep: t.set.keep}, t.log)
		t.background(s.Sweep)
		return &server.App{REST: s.REST(), EdgeMethods: inventory.EdgeMethods,
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterInventoryManagementServer(r, s.GRPC()) }}
	},
	customers.Name: func(t tools) *server.App {
		s := customers.New(store.Customers{DB: t.db})
		return &server.App{REST: s.REST(),
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterCustomerProfileServer(r, s.GRPC()) }}
	},
	payments.Name: func(t tools) *server.App {
		provider := payments.NewFakeProvider(store.Book{DB: t.db}, t.set.provider, t.set.pod)
		s := payments.New(store.Payments{DB: t.db}, provider, func() []byte { return []byte(t.secrets.Latest().PaymentKey) })
		return &server.App{
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterPaymentGatewayServer(r, s.GRPC()) }}
	},
	configurator.Name: func(t tools) *server.App {
		s := configurator.New(store.Configurations{DB: t.db},
			shopapi.NewProductCatalogClient(t.dial(catalog.Name)),
			shopapi.NewInventoryManagementClient(t.dial(inventory.Name)))
		return &server.App{REST: s.REST(), EdgeMethods: configurator.EdgeMethods,
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterConfigurationEngineServer(r, s.GRPC()) }}
	},
	recommend.Name: func(t tools) *server.App {
		s := recommend.New(store.Picks{DB: t.db}, recommend.Peers{
			Catalog:   shopapi.NewProductCatalogClient(t.dial(catalog.Name)),
			Customers: shopapi.NewCustomerProfileClient(t.dial(customers.Name)),
			Analytics: shopapi.NewAnalyticsServiceClient(t.dial(analytics.Name)),
		}, t.log)
		t.background(s.Refresh)
		return &server.App{REST: s.REST(), EdgeMethods: recommend.EdgeMethods,
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterRecommendationServiceServer(r, s.GRPC()) }}
	},
	analytics.Name: func(t tools) *server.App {
		s := analytics.New(store.Events{DB: t.db})
		return &server.App{REST: s.REST(),
			Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterAnalyticsServiceServer(r, s.GRPC()) }}
	},
	orders.Name: buildOrders,
}

func buildOrders(t tools) *server.App {
	kept := store.Orders{DB: t.db}
	stock := shopapi.NewInventoryManagementClient(t.dial(inventory.Name))
	outbox := orders.NewOutbox(kept, stock, shopapi.NewAnalyticsServiceClient(t.dial(analytics.Name)), t.metrics, t.log)
	s := orders.New(kept, orders.Peers{
		Customers:     shopapi.NewCustomerProfileClient(t.dial(customers.Name)),
		Catalog:       shopapi.NewProductCatalogClient(t.dial(catalog.Name)),
		Configuration: shopapi.NewConfigurationEngineClient(t.dial(configurator.Name)),
		Inventory:     stock,
		Payments:      shopapi.NewPaymentGatewayClient(t.dial(payments.Name)),
	}, outbox, orders.Options{GiveUp: t.set.giveUp}, t.log)
	t.atEnd(outbox.Close)
	t.background(s.Recover)
	return &server.App{REST: s.REST(),
		Register: func(r grpc.ServiceRegistrar) { shopapi.RegisterOrderProcessingServer(r, s.GRPC()) }}
}

// deferred are the services whose writes wait for no disk: see store.Config.
var deferred = []string{inventory.Name, payments.Name, analytics.Name}

func serviceNames() []string { return slices.Sorted(maps.Keys(builders)) }

// runService serves until ctx ends.
func runService(ctx context.Context, set settings, log *slog.Logger) error {
	return server.Run(ctx, server.Config{
		Service: set.service, Pod: set.pod, Node: set.node, Version: set.version,
		HTTP: set.http, EdgeGRPC: set.edge, GRPC: set.grpc, Admin: set.admin,
		Drain: set.drain, HardStop: set.hardStop, Behaviour: behaviour.New(set.behaviour, set.pod), Log: log,
	}, func(ctx context.Context, metrics prometheus.Registerer) (*server.App, error) {
		return start(ctx, set, metrics, log)
	})
}

// start waits for secrets and database, and builds the service.
func start(ctx context.Context, set settings, metrics prometheus.Registerer, log *slog.Logger) (*server.App, error) {
	keeper := secrets.NewKeeper(source(set), set.service == payments.Name, set.secretsEvery, log)
	if err := keeper.Load(ctx); err != nil {
		return nil, err
	}
	// What runs in the background outlives ctx, which ends when draining begins.
	back, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	db, err := openDB(ctx, set, keeper)
	if err != nil {
		stop()
		return nil, err
	}
	keeper.OnRenewal(db.Renew)
	running.Go(func() { keeper.Keep(back) })
	if err := awaitSchema(ctx, db, log); err != nil {
		stop()
		running.Wait()
		db.Close()
		return nil, err
	}
	var ends []func(context.Context)
	var conns []*grpc.ClientConn
	var dialErr error
	dialer := peer.Dialer{Namespace: set.namespace, Targets: set.targets, FailFast: set.failFast, Retries: set.retries}
	t := tools{
		set: set, db: db, secrets: keeper, metrics: metrics, log: log,
		dial: func(service string) *grpc.ClientConn {
			conn, err := dialer.Dial(service)
			dialErr = errors.Join(dialErr, err)
			conns = append(conns, conn)
			return conn
		},
		background: func(f func(context.Context)) { running.Go(func() { f(back) }) },
		atEnd:      func(f func(context.Context)) { ends = append(ends, f) },
	}
	app := builders[set.service](t)
	app.Ready = db.Ping
	app.Close = func(ctx context.Context) {
		stop()
		running.Wait()
		for _, end := range ends {
			end(ctx)
		}
		for _, c := range conns {
			_ = c.Close() // closed already is as good
		}
		db.Close()
	}
	return app, dialErr
}

func source(set settings) secrets.Source {
	if set.vault {
		return secrets.Vault{Addr: set.vaultAddr, CACert: set.vaultCA, Role: set.vaultRole, Path: set.vaultPath, TokenFile: set.vaultToken}
	}
	return secrets.Files{Dir: set.secretsDir}
}

// openDB prepares the connections; it does not connect yet.
func openDB(ctx context.Context, set settings, keeper *secrets.Keeper) (*store.DB, error) {
	return store.Open(context.WithoutCancel(ctx), store.Config{
		Host: set.dbHost, ReadHost: set.dbReadHost, Port: set.dbPort, Name: set.dbName,
		Application: set.service, Deferred: slices.Contains(deferred, set.service),
		Refused: keeper.Nudge,
		Credentials: func(context.Context) (string, string, error) {
			s := keeper.Latest()
			return s.DBUser, s.DBPassword, nil
		},
	})
}

// awaitSchema waits until the database answers and has this program's schema.
func awaitSchema(ctx context.Context, db *store.DB, log *slog.Logger) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 3*time.Second) {
		err := db.Migrate(ctx)
		if err == nil {
			return nil
		}
		log.Warn("the database is not ready", "error", err, "again", wait.String())
		if err := pause.For(ctx, wait); err != nil {
			return fmt.Errorf("waiting for the database: %w", err)
		}
	}
}
