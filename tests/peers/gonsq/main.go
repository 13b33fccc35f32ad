// The go-nsq peer of the tests; ../README.md has its arguments.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	nsq "github.com/nsqio/go-nsq"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 5 {
		log.Fatal("usage: see tests/peers/README.md")
	}
	switch os.Args[1] {
	case "publish":
		publish(os.Args[2], os.Args[3], os.Args[4:])
	case "consume":
		consume(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6:])
	default:
		log.Fatalf("unknown command %q", os.Args[1])
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func publish(address, topic string, actions []string) {
	producer, err := nsq.NewProducer(address, nsq.NewConfig())
	must(err)
	for _, action := range actions {
		kind, rest, _ := strings.Cut(action, ":")
		switch kind {
		case "single":
			must(producer.Publish(topic, []byte(rest)))
		case "multi":
			var bodies [][]byte
			for _, body := range strings.Split(rest, ",") {
				bodies = append(bodies, []byte(body))
			}
			must(producer.MultiPublish(topic, bodies))
		case "defer":
			ms, body, _ := strings.Cut(rest, ":")
			delay, err := strconv.Atoi(ms)
			must(err)
			must(producer.DeferredPublish(topic, time.Duration(delay)*time.Millisecond, []byte(body)))
		default:
			log.Fatalf("unknown action %q", action)
		}
	}
	producer.Stop()
	fmt.Println("ok")
}

// plan says what to do with the deliveries of named bodies, and how many messages are still to finish.
type plan struct {
	sync.Mutex
	requeue map[string]int
	hold    map[string]bool
	held    []*nsq.Message
	left    int
	done    chan struct{}
}

func (p *plan) HandleMessage(message *nsq.Message) error {
	p.Lock()
	defer p.Unlock()
	body := string(message.Body)
	does := "finish"
	message.DisableAutoResponse()
	switch {
	case p.requeue[body] > 0:
		p.requeue[body]--
		does = "requeue"
	case p.hold[body]:
		p.hold[body] = false
		p.held = append(p.held, message)
		does = "hold"
	}
	line, err := json.Marshal(map[string]any{
		"body": body, "attempts": message.Attempts, "id": string(message.ID[:]), "does": does,
	})
	must(err)
	fmt.Println(string(line))
	switch does {
	case "requeue":
		message.RequeueWithoutBackoff(0)
	case "finish":
		message.Finish()
		p.left--
		if p.left == 0 {
			// go-nsq stops only once everything is answered, and a late FIN must not end a connection.
			for _, held := range p.held {
				held.Finish()
			}
			close(p.done)
		}
	}
	return nil
}

func consume(source, topic, channel, finish string, rules []string) {
	left, err := strconv.Atoi(finish)
	must(err)
	p := &plan{requeue: map[string]int{}, hold: map[string]bool{}, left: left, done: make(chan struct{})}
	for _, rule := range rules {
		words := strings.Split(rule, ":")
		switch words[0] {
		case "requeue":
			times, err := strconv.Atoi(words[2])
			must(err)
			p.requeue[words[1]] = times
		case "hold":
			p.hold[words[1]] = true
		default:
			log.Fatalf("unknown rule %q", rule)
		}
	}
	config := nsq.NewConfig()
	config.MaxInFlight = 10
	config.MaxAttempts = 0
	config.MsgTimeout = time.Second
	config.LookupdPollInterval = 200 * time.Millisecond
	consumer, err := nsq.NewConsumer(topic, channel, config)
	must(err)
	consumer.AddHandler(p)
	kind, address, _ := strings.Cut(source, ":")
	if kind == "lookupd" {
		must(consumer.ConnectToNSQLookupd(address))
	} else {
		must(consumer.ConnectToNSQD(address))
	}
	<-p.done
	consumer.Stop()
	<-consumer.StopChan
}
