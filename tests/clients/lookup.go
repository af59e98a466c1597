// As lookup.c, with Go's package net.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

func lookup(name string) string {
	var found []string
	var err error
	if net.ParseIP(name) != nil {
		found, err = net.DefaultResolver.LookupAddr(context.Background(), name)
	} else {
		found, err = net.DefaultResolver.LookupHost(context.Background(), name)
	}
	var dns *net.DNSError
	switch {
	case err == nil:
		sort.Strings(found)
		return strings.Join(found, ",")
	case errors.As(err, &dns) && dns.IsNotFound:
		return "not found"
	case errors.As(err, &dns) && dns.IsTemporary:
		return "try again"
	case errors.As(err, &dns):
		return dns.Err
	default:
		return err.Error()
	}
}

func main() {
	many := regexp.MustCompile(`^(\d+)x(.+)$`)
	for _, argument := range os.Args[1:] {
		name, times := argument, 1
		if found := many.FindStringSubmatch(argument); found != nil {
			times, _ = strconv.Atoi(found[1])
			name = found[2]
		}
		first := lookup(name)
		for ; times > 1; times-- {
			if now := lookup(name); now != first {
				first = "varies: " + now
				break
			}
		}
		fmt.Printf("%s\t%s\n", argument, first)
	}
}
