package service

import (
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// Logger writes to stderr: JSON for machines, short lines for a person at a terminal.
func Logger(c Config) *zap.Logger {
	format := c.LogFormat
	if format == "auto" {
		format = "json"
		if term.IsTerminal(int(os.Stderr.Fd())) {
			format = "console"
		}
	}
	keys := zap.NewProductionEncoderConfig()
	keys.TimeKey, keys.EncodeTime, keys.EncodeDuration = "time", zapcore.RFC3339NanoTimeEncoder, zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(keys)
	if format == "console" {
		keys.EncodeTime, keys.EncodeLevel = zapcore.TimeEncoderOfLayout("15:04:05"), zapcore.CapitalLevelEncoder
		keys.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), c.LogLevel))
}

// Metrics is a registry that has what is known of the process and of the Go runtime.
func Metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return registry
}

// Traces makes W3C trace contexts travel, always, and exports spans where the configuration says where to. The returned
// function sends what is left.
func Traces(ctx context.Context, c Config, version string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "handover"), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	options := []trace.TracerProviderOption{trace.WithResource(about)}
	if c.TraceURL == "" {
		// Spans still have ids, which the logs of several processes share; nothing records them.
		options = append(options, trace.WithSampler(trace.NeverSample()))
	} else {
		// It reads the OTEL_ variables itself.
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
		options = append(options, trace.WithBatcher(exporter))
	}
	provider := trace.NewTracerProvider(options...)
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}
