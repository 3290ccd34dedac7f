package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// spinlab runs a program that has a defect of a class, beside healthy connections where they are served.
func spinlab(program, class string) func(*place) (int, error) {
	return func(p *place) (int, error) {
		_, out, err := p.start(filepath.Join(p.programs, "spinlab"), program, class, strconv.Itoa(talkers))
		if err != nil {
			return 0, err
		}
		return find(out, `^process (\d+) spins`)
	}
}

//go:embed busypoll.py
var busyPollSource string

// busyPoll runs a receiver of datagrams whose waits are busy in the kernel.
func busyPoll(p *place) (int, error) {
	file, err := p.write("busypoll.py", busyPollSource)
	if err != nil {
		return 0, err
	}
	_, out, err := p.start("/usr/bin/python3", file)
	if err != nil {
		return 0, err
	}
	return find(out, `^process (\d+) busy polls`)
}

// webPage is a section of HAProxy that answers by itself.
const webPage = "mode http\n http-request return status 200"

const haproxyConfig = `
global
    %s
    nbthread 1
    stats socket %s/sock level admin
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen web
    bind 127.0.0.1:%s
    %s
`

// haproxy runs a HAProxy with a line in "global" and lines in its only section, with load or without.
func haproxy(global, lines string, loaded bool) func(*place) (int, error) {
	return func(p *place) (int, error) {
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		file, err := p.write("haproxy.cfg", fmt.Sprintf(haproxyConfig, global, p.directory, port, lines))
		if err != nil {
			return 0, err
		}
		c, _, err := p.start("haproxy", "-db", "-f", file)
		if err == nil {
			err = p.listens("127.0.0.1:" + port)
		}
		if err == nil && loaded {
			err = p.load("wrk", "-t", "1", "-c", "8", "-d", "60", "http://127.0.0.1:"+port+"/")
		}
		if err != nil {
			return 0, err
		}
		return c.Process.Pid, p.worked(c.Process.Pid, loaded)
	}
}

const nginxConfig = `
daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    server { listen 127.0.0.1:%[2]s; location / { return 200 "ok"; } }
}
`

// nginx returns the worker, which is the child of the process that is started.
func nginx(p *place) (int, error) {
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	file, err := p.write("nginx.conf", fmt.Sprintf(nginxConfig, p.directory, port))
	if err != nil {
		return 0, err
	}
	c, _, err := p.start("nginx", "-e", "stderr", "-p", p.directory, "-c", file)
	if err == nil {
		err = p.listens("127.0.0.1:" + port)
	}
	if err != nil {
		return 0, err
	}
	worker := 0
	err = p.until("the worker to run", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", c.Process.Pid))
		_, err := fmt.Sscan(string(text), &worker)
		return err == nil
	})
	if err != nil {
		return 0, err
	}
	if err := p.load("wrk", "-t", "1", "-c", "8", "-d", "60", "http://127.0.0.1:"+port+"/"); err != nil {
		return 0, err
	}
	return worker, p.worked(worker, true)
}

// redis runs Redis under redis-benchmark.
func redis(pipeline string) func(*place) (int, error) {
	return func(p *place) (int, error) {
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		c, out, err := p.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
			"--appendonly", "no")
		if err != nil {
			return 0, err
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		if err := p.listens("127.0.0.1:" + port); err != nil {
			return 0, err
		}
		err = p.load("redis-benchmark", "-p", port, "-P", pipeline, "-c", "8", "-l", "-q", "-t", "set,get")
		if err != nil {
			return 0, err
		}
		return c.Process.Pid, p.worked(c.Process.Pid, true)
	}
}

// node runs an echo server in Node with clients that never pause.
func node(p *place) (int, error) {
	c, out, err := p.start("node", "tools/spinlab/programs/node/server.js")
	if err != nil {
		return 0, err
	}
	line, err := out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("node ended before it listened: %w", err)
	}
	var said struct{ Listener string }
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		return 0, err
	}
	for range talkers {
		conn, err := net.Dial("tcp", said.Listener)
		if err != nil {
			return 0, err
		}
		p.connections = append(p.connections, conn)
		go converse(conn)
	}
	return c.Process.Pid, p.worked(c.Process.Pid, true)
}

// converse sends a message and reads it back until the connection ends.
func converse(c net.Conn) {
	message := []byte("a message of some length")
	for back := make([]byte, len(message)); ; {
		if _, err := c.Write(message); err != nil {
			return
		}
		if _, err := io.ReadFull(c, back); err != nil {
			return
		}
	}
}
