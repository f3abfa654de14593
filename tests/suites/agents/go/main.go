// `depot`: an HTTP program under the Go agent that can be had as a module, go2sky. It passes a trace on to the next program.
// Whoever writes the program hands the agent its TLS settings; where files are named, they are used.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"

	"github.com/SkyAPM/go2sky"
	traced "github.com/SkyAPM/go2sky/plugins/http"
	"github.com/SkyAPM/go2sky/reporter"
	"google.golang.org/grpc/credentials"
)

func main() {
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	var options []reporter.GRPCReporterOption
	if os.Getenv("SW_TLS_CA") != "" {
		settings, err := files()
		if err != nil {
			return err
		}
		options = append(options, reporter.WithTransportCredentials(credentials.NewTLS(settings)))
	}
	// Where to report, as whom, how often and with which token it reads from its SW_AGENT_* variables.
	agent, err := reporter.NewGRPCReporter("", options...)
	if err != nil {
		return err
	}
	tracer, err := go2sky.NewTracer(os.Getenv("SW_AGENT_NAME"),
		go2sky.WithReporter(agent), go2sky.WithInstance(os.Getenv("SW_AGENT_INSTANCE_NAME")))
	if err != nil {
		return err
	}
	instrumented, err := traced.NewServerMiddleware(tracer)
	if err != nil {
		return err
	}
	client, err := traced.NewClient(tracer)
	if err != nil {
		return err
	}
	http.Handle("/depot/leaf", instrumented(leaf(client, os.Getenv("NEXT"))))
	return http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}

// The id of the trace, and what the next program says, if there is one.
func leaf(client *http.Client, next string) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		said := map[string]any{"leaf": "depot", "trace": go2sky.TraceID(request.Context())}
		if next != "" {
			asked, err := http.NewRequestWithContext(request.Context(), http.MethodGet, next, nil)
			if err != nil {
				http.Error(answer, err.Error(), http.StatusInternalServerError)
				return
			}
			told, err := client.Do(asked)
			if err != nil {
				http.Error(answer, err.Error(), http.StatusBadGateway)
				return
			}
			defer told.Body.Close()
			var content any
			if err := json.NewDecoder(told.Body).Decode(&content); err != nil {
				http.Error(answer, err.Error(), http.StatusBadGateway)
				return
			}
			said["next"] = content
		}
		if err := json.NewEncoder(answer).Encode(said); err != nil {
			log.Print(err)
		}
	}
}

// What SW_TLS_CA, SW_TLS_CERT and SW_TLS_KEY name; the last two are for mutual TLS.
func files() (*tls.Config, error) {
	ca, err := os.ReadFile(os.Getenv("SW_TLS_CA"))
	if err != nil {
		return nil, err
	}
	settings := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !settings.RootCAs.AppendCertsFromPEM(ca) {
		return nil, errors.New("SW_TLS_CA: no certificate in it")
	}
	if key := os.Getenv("SW_TLS_KEY"); key != "" {
		pair, err := tls.LoadX509KeyPair(os.Getenv("SW_TLS_CERT"), key)
		if err != nil {
			return nil, err
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}
