package native

import "testing"

// What the tests of whole models need: they are a package of their own, since
// the binding they use imports this one.

// ChildVariable holds the job of a process that runs models, and Child does it.
const ChildVariable = "BESA_NATIVE_TEST_JOB"

// Child is set by the tests of whole models.
var Child func() int

// Codings that have kernels.
var Codings = codings

// Distance is ‖a − b‖/‖b‖.
var Distance = distance

// PluginForTests returns the path of the plugin's test build, or skips the test.
func PluginForTests(t *testing.T) string {
	loadKernels(t)
	return testLibrary
}
