package shopapi_test

import (
	"path/filepath"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "meshsim.dev/meshsim/fakeshop/shopapi"
)

// The generated Go is of today's .proto files; `go generate` when it is not.
func TestTheGeneratedCodeIsThatOfTheProtos(t *testing.T) {
	files, err := filepath.Glob("*.proto")
	require.NoError(t, err)
	require.Len(t, files, 8)
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../.."}}}
	for _, file := range files {
		path := "fakeshop/shopapi/" + file
		t.Run(file, func(t *testing.T) {
			compiled, err := compiler.Compile(t.Context(), path)
			require.NoError(t, err)
			generated, err := protoregistry.GlobalFiles.FindFileByPath(path)
			require.NoError(t, err)
			require.Equal(t,
				protojson.Format(protodesc.ToFileDescriptorProto(compiled[0])),
				protojson.Format(protodesc.ToFileDescriptorProto(generated)))
		})
	}
}
