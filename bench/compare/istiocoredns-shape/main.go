// The shape of istiocoredns: a program that CoreDNS asks over gRPC for every query, and that holds the names in a
// map (github.com/istio-ecosystem/istio-coredns-plugin, which CoreDNS's plugin "grpc" reached at 127.0.0.1:8053).
//
// As there: the whole message is unpacked, its one question is looked up in a map behind a lock, and the reply is
// packed again. Unlike there, so that it passes the same checks as all servers here: a name that exists is never
// NXDOMAIN, and the names come from a zone file rather than from a cluster.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/coredns/coredns/pb"
	"github.com/miekg/dns"
	"google.golang.org/grpc"
)

const ttl = 30

type server struct {
	pb.UnimplementedDnsServiceServer
	lock  sync.RWMutex
	hosts map[string][]net.IP
}

// Query answers one message of CoreDNS.
func (s *server) Query(_ context.Context, in *pb.DnsPacket) (*pb.DnsPacket, error) {
	request := new(dns.Msg)
	if err := request.Unpack(in.Msg); err != nil {
		return nil, fmt.Errorf("unpacking a query: %w", err)
	}
	response := new(dns.Msg)
	response.SetReply(request)
	response.Authoritative = true
	response.Rcode = dns.RcodeNameError
	for _, question := range request.Question {
		addresses, exists := s.lookUp(question.Name)
		if !exists {
			continue
		}
		response.Rcode = dns.RcodeSuccess
		if question.Qtype != dns.TypeA {
			continue
		}
		for _, address := range addresses {
			response.Answer = append(response.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
				A:   address,
			})
		}
	}
	out, err := response.Pack()
	if err != nil {
		return nil, fmt.Errorf("packing a reply: %w", err)
	}
	return &pb.DnsPacket{Msg: out}, nil
}

func (s *server) lookUp(name string) ([]net.IP, bool) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	addresses, exists := s.hosts[strings.ToLower(name)]
	return addresses, exists
}

// readZone takes the A records of a zone file that has full names, one record a line.
func readZone(path string) (map[string][]net.IP, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	hosts := make(map[string][]net.IP)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 4 || words[2] != "A" || !strings.HasSuffix(words[0], ".") {
			continue
		}
		address := net.ParseIP(words[3]).To4()
		if address == nil {
			return nil, fmt.Errorf("%s: %q is no IPv4 address", path, words[3])
		}
		name := strings.ToLower(words[0])
		hosts[name] = append(hosts[name], address)
	}
	return hosts, lines.Err()
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8053", "where CoreDNS asks")
	zone := flag.String("zone", "", "the zone file")
	flag.Parse()
	hosts, err := readZone(*zone)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	rpc := grpc.NewServer()
	pb.RegisterDnsServiceServer(rpc, &server{hosts: hosts})
	log.Fatal(rpc.Serve(listener))
}
