module oomparser.invalid/tests

go 1.26

require github.com/google/cadvisor v0.53.0

require (
	github.com/euank/go-kmsg-parser v2.0.0+incompatible // indirect
	github.com/go-logr/logr v1.4.3 // indirect
	k8s.io/klog/v2 v2.130.1 // indirect
)
