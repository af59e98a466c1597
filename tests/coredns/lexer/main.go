// Says how CoreDNS's own code reads Corefiles: prints a line of JSON for every file given, in order.
//
// tests/coredns/lexer/run holds what globaldns reads against it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/corefile-migration/migration"
)

// Token is a token of the file itself.
type Token struct {
	Text string
	Line int
}

// Server is a server block, with its snippets put in and the tokens of a directive's lines joined.
type Server struct {
	Keys       []string
	Directives map[string][]string
}

// Reading is what becomes of a file.
type Reading struct {
	Tokens  []Token
	Servers []Server
	// Why it is not read.
	Error string
	// The file as kubeadm's upgrade writes it, if it does.
	Migrated string
}

// A directory that does not exist: no relative import finds a file.
const place = "/nonexistent/coredns/Corefile"

func read(text []byte) (reading Reading) {
	tokens := caddyfile.NewDispenser(place, bytes.NewReader(text))
	for tokens.Next() {
		reading.Tokens = append(reading.Tokens, Token{tokens.Val(), tokens.Line()})
	}
	blocks, err := caddyfile.Parse(place, bytes.NewReader(text), nil)
	if err != nil {
		reading.Error = err.Error()
		return reading
	}
	for _, block := range blocks {
		server := Server{block.Keys, map[string][]string{}}
		for name, tokens := range block.Tokens {
			for _, token := range tokens {
				server.Directives[name] = append(server.Directives[name], token.Text)
			}
		}
		reading.Servers = append(reading.Servers, server)
	}
	reading.Migrated = migrate(string(text))
	return reading
}

// migrate goes through all versions with changes to a Corefile. It panics at some texts that CoreDNS takes.
func migrate(text string) (migrated string) {
	defer func() {
		if recover() != nil {
			migrated = ""
		}
	}()
	migrated, err := migration.Migrate("1.1.3", "1.12.0", text, true)
	if err != nil {
		return ""
	}
	return migrated
}

func main() {
	log.SetOutput(io.Discard)
	out := json.NewEncoder(os.Stdout)
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err == nil {
			err = out.Encode(read(text))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
