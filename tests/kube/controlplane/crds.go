//go:build crds

// Never built: it keeps the Gateway API in go.mod, whose module folder holds the CRD files that the tests apply.
package main

import _ "sigs.k8s.io/gateway-api/pkg/consts"
