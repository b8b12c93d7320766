// Package shopapi is the shop's gRPC interface, package shop.v1: messages,
// clients and servers generated from the .proto files beside it. Names of the
// metadata that every answer carries are in metadata.go.
package shopapi

// The plugins are pinned by tools/go.mod; protoc is Debian's
// protobuf-compiler (3.21.12), whose version is written into the output.
//go:generate go -C tools build -o ../.bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
//go:generate protoc --plugin=.bin/protoc-gen-go --plugin=.bin/protoc-gen-go-grpc -I ../.. --go_out=../.. --go_opt=paths=source_relative --go-grpc_out=../.. --go-grpc_opt=paths=source_relative fakeshop/shopapi/analytics.proto fakeshop/shopapi/catalog.proto fakeshop/shopapi/configurator.proto fakeshop/shopapi/customers.proto fakeshop/shopapi/inventory.proto fakeshop/shopapi/orders.proto fakeshop/shopapi/payments.proto fakeshop/shopapi/recommend.proto
