// Package bundle makes and keeps everything a rehearsal runs: container images
// and Helm charts at the versions of one lock file.
//
// A bundle is a folder: an OCI image layout (oci), charts (charts/NAME) and a
// record (bundle.json). Build makes one from Go modules and Debian packages,
// where there is no registry; Pull takes the official images and charts. Save
// and Load carry a bundle to a machine that has nothing. Overrides put other
// images and charts in the place of the lock's: from registries, chart
// repositories, files or folders; Overlay lays them over a bundle that is there.
//
// A bundle is named by a hash over the lock, the pinned modules and the sources
// of our own programs. What it is made of is kept component by component, each
// named by a hash of its own, so a change makes only what depends on it again.
package bundle
