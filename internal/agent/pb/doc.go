// Package pb holds the agent protocol over gRPC: a package for each version,
// generated from the schema beside it. After a change of a schema run
//
//	go generate ./internal/agent/pb
//
// with protoc 3.21, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.6.2.
package pb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative agentv1/agent.proto agentv2/agent.proto
