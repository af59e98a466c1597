module globaldns/tests/coredns/lexer

go 1.24

require (
	github.com/coredns/caddy v1.1.4
	github.com/coredns/corefile-migration v1.0.36
)
