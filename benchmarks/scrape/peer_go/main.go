// The same series in an exporter made with client_golang: main PORT FILE.
//
// GO111MODULE=off GOPATH=/usr/share/gocode go build, with Debian's golang-github-prometheus-client-golang-dev.
package main

import (
	"encoding/json"
	"log"
	"math"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type series struct {
	Labels []string `json:"labels"`
	Value  float64  `json:"value"`
	Counts []int    `json:"counts"`
}

type family struct {
	Name   string    `json:"name"`
	Type   string    `json:"type"`
	Help   string    `json:"help"`
	Labels []string  `json:"labels"`
	Bounds []float64 `json:"bounds"`
	Series []series  `json:"series"`
}

func register(f family, registry *prometheus.Registry) {
	switch f.Type {
	case "histogram":
		vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.Help, Buckets: f.Bounds}, f.Labels)
		registry.MustRegister(vec)
		for _, s := range f.Series {
			for i, count := range s.Counts {
				bound := math.MaxFloat32
				if i < len(f.Bounds) {
					bound = f.Bounds[i]
				}
				for ; count > 0; count-- {
					vec.WithLabelValues(s.Labels...).Observe(bound)
				}
			}
		}
	case "counter":
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
		registry.MustRegister(vec)
		for _, s := range f.Series {
			vec.WithLabelValues(s.Labels...).Add(s.Value)
		}
	default:
		vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, f.Labels)
		registry.MustRegister(vec)
		for _, s := range f.Series {
			vec.WithLabelValues(s.Labels...).Set(s.Value)
		}
	}
}

func main() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var families []family
	if err := json.Unmarshal(text, &families); err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, f := range families {
		register(f, registry)
	}
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
