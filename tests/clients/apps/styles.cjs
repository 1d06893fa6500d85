// What applications hand on with their calls, in Node; see styles.py. Each style takes the fields that a request brought
// and gives those that a call has.
'use strict';
const crypto = require('node:crypto');
const { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter, trace } = require('@opentelemetry/api');
const { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } = require('@opentelemetry/core');
const { B3InjectEncoding, B3Propagator } = require('@opentelemetry/propagator-b3');
const { BasicTracerProvider } = require('@opentelemetry/sdk-trace-node');

const ALL = [
  ...['x-pr-id', 'baggage', 'traceparent', 'tracestate', 'x-request-id', 'b3'],
  ...['x-b3-traceid', 'x-b3-parentspanid', 'x-b3-spanid', 'x-b3-sampled', 'x-b3-flags'],
  ...['x-datadog-trace-id', 'x-datadog-parent-id', 'x-datadog-sampling-priority', 'x-datadog-tags'],
];
const W3C = ['x-pr-id', 'baggage', 'traceparent', 'tracestate', 'x-request-id'];

const tracer = new BasicTracerProvider().getTracer('chain');
const hex = (bytes) => crypto.randomBytes(bytes).toString('hex');
const number = () => String(BigInt(`0x${hex(8)}`) >> 1n);

const picked = (names) => (received) =>
  Object.fromEntries(names.filter((name) => name in received).map((name) => [name, received[name]]));

// OpenTelemetry: the call is a span of its own in the trace that the request brought, or in a new one.
const instrumented = (extract, inject) => (received) => {
  const context = extract.reduce((so, one) => one.extract(so, received, defaultTextMapGetter), ROOT_CONTEXT);
  const fields = {};
  inject.inject(trace.setSpan(context, tracer.startSpan('call', {}, context)), fields, defaultTextMapSetter);
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));
};

const w3c = new W3CTraceContextPropagator();
// What the SDK has when nobody says otherwise.
const usual = new CompositePropagator({ propagators: [w3c, new W3CBaggagePropagator()] });
const b3 = new B3Propagator({ injectEncoding: B3InjectEncoding.MULTI_HEADER });
const b3Single = new B3Propagator({ injectEncoding: B3InjectEncoding.SINGLE_HEADER });

const STYLES = {
  everything: picked(ALL),
  full: picked(W3C),
  baggage: instrumented([usual], usual),
  tracestate: instrumented([w3c], w3c),
  traceparent: (received) => {
    const [version, id, , flags] = (received.traceparent || `00-${hex(16)}-0-01`).split('-');
    return { traceparent: `${version}-${id}-${hex(8)}-${flags}` };
  },
  b3: instrumented([b3], b3),
  'b3-single': instrumented([b3Single], b3Single),
  bridge: instrumented([w3c, b3], b3),
  'datadog-64': (received) => ({
    'x-datadog-trace-id': received['x-datadog-trace-id'] || number(),
    'x-datadog-parent-id': number(),
  }),
  'request-id': picked(['x-request-id']),
  none: picked([]),
};

module.exports = { ALL, STYLES };
