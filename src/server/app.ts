/**
 * The application: everything behind HTTP, put together. `buildApp` opens the store and starts rebuilding what it holds;
 * listening, signals and the environment are main.ts.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import websocket from '@fastify/websocket';
import Fastify from 'fastify';
import { documentOptions } from './api-document.ts';
import { ApiMetrics } from './api-metrics.ts';
import { CaptureRegistry } from './captures/capture-registry.ts';
import { Connections } from './connections.ts';
import { CostProfiles } from './cost-profiles.ts';
import { EnginePool } from './engine-pool.ts';
import { handleError, rawProblem, toProblem } from './error-handler.ts';
import { chooseSubprotocol, MESSAGE_BYTES } from './events/event-protocol.ts';
import { ExperimentRegistry } from './experiments/experiment-registry.ts';
import { ExperimentStore } from './experiments/experiment-store.ts';
import type { QueueMaker } from './experiments/job-feed.ts';
import { makeQueue } from './experiments/make-queue.ts';
import { natsCounts } from './experiments/nats-metrics.ts';
import { poolCounts } from './experiments/pool-metrics.ts';
import { Guard, isOpen } from './guard.ts';
import { MethodTable } from './methods.ts';
import { notFound, Problem, sendProblem } from './problem.ts';
import { addBridgeRoutes } from './routes/bridges.ts';
import { addCaptureFileRoutes } from './routes/capture-files.ts';
import { addCaptureRoutes } from './routes/captures.ts';
import { addClockRoutes } from './routes/clock.ts';
import { addCostProfileRoutes } from './routes/cost-profiles.ts';
import { addDiffRoutes } from './routes/diffs.ts';
import { addDpdkRoutes } from './routes/dpdk.ts';
import { addDryRunRoutes } from './routes/dry-runs.ts';
import { addEventRoutes } from './routes/events.ts';
import { addExperimentRoutes } from './routes/experiments.ts';
import { addFaultRoutes } from './routes/faults.ts';
import { addGuestAccessRoutes, addGuestMemoryRoute } from './routes/guest-access.ts';
import { addGuestRoutes } from './routes/guests.ts';
import { addJourneyRoutes } from './routes/journeys.ts';
import { addMetricsRoute } from './routes/metrics.ts';
import { addOpenFlowRoutes } from './routes/openflow.ts';
import { addOvsRoutes } from './routes/ovs.ts';
import { addPointRoutes } from './routes/points.ts';
import { addPresetRoutes } from './routes/presets.ts';
import { addQemuRoutes } from './routes/qemu.ts';
import { addReplayRoutes } from './routes/replays.ts';
import { addServerRoutes } from './routes/server.ts';
import { addTimelineRoute } from './routes/timeline.ts';
import { addTopologyRoutes } from './routes/topologies.ts';
import { addTrafficRoutes } from './routes/traffic.ts';
import { addWiresharkRoutes } from './routes/wireshark.ts';
import { namedSchemas } from './schemas/reference.ts';
import type { App, Services } from './services.ts';
import type { Settings } from './settings.ts';
import { Stopping } from './stopping.ts';
import { TopologyStore } from './store.ts';
import { StreamSlots } from './streaming.ts';
import { TopologyRegistry } from './topologies.ts';
import { validatorCompiler } from './validation.ts';

export interface AppOptions {
  readonly settings: Settings;
  /** Entry of the engine threads; tests may put another in its place. */
  readonly engine?: URL;
  /** How long an engine thread may be silent before it is given up. */
  readonly silenceMs?: number;
  /** Makes the queue of experiments' runs; tests may put another in its place. */
  readonly queue?: QueueMaker;
}

export interface Ringside {
  readonly app: App;
  readonly services: Services;
  /** Settles once the stored topologies have been rebuilt. */
  readonly restored: Promise<void>;
  /** Ends streams and long polls, then connections, then the engine threads. */
  readonly close: () => Promise<void>;
}

const ENGINE = new URL('../lab/worker.ts', import.meta.url);
/** How long streams and responses may take to end before their connections are cut. */
const DRAIN_MS = 3000;
/** How long a client may take to send a request. */
const REQUEST_MS = 120_000;

export async function buildApp({ settings, engine = ENGINE, silenceMs, queue }: AppOptions): Promise<Ringside> {
  const store = new TopologyStore(settings.dataDir);
  const folder =
    settings.dataDir === null ? mkdtempSync(join(tmpdir(), 'ringside-')) : resolve(settings.dataDir, 'run');
  const pool = new EnginePool(settings.workers, engine, { folder, address: settings.ovsHost }, silenceMs);
  const profiles = new CostProfiles(store);
  const registry = new TopologyRegistry(store, pool, settings.limits, profiles);
  const captures = new CaptureRegistry(store, settings.dataDir, settings.limits);
  registry.onRemoved = (name) => captures.removeAll(name);
  const experiments = new ExperimentRegistry({
    store: new ExperimentStore(settings.dataDir),
    limits: settings.limits,
    makeQueue: queue ?? ((listener) => makeQueue(settings, listener)),
    profiles: profiles.book,
    parallel: settings.jobThreads,
  });
  const streams = new StreamSlots(settings.limits.streams);
  const metrics = new ApiMetrics({
    topologies: () => registry.size,
    streams: () => streams.used,
    worldsByThread: () => pool.load(),
    captures: () => captures.counts,
    jobs: () => poolCounts(experiments.jobs.current),
    nats: () => natsCounts(experiments.jobs.current),
  });
  const services: Services = {
    settings,
    registry,
    profiles,
    captures,
    experiments,
    pool,
    stopping: new Stopping(),
    streams,
    metrics,
  };
  const app = await buildRoutes(services);
  const connections = new Connections(app.server);
  const restored = registry.restore().then(() => experiments.restore());
  return {
    app,
    services,
    restored,
    close: async () => {
      services.stopping.begin();
      const written = captures.close();
      await connections.drain(DRAIN_MS);
      connections.cut();
      await app.close();
      await written;
      await experiments.close();
      await pool.stop();
      await restored.catch(() => undefined);
      store.close();
    },
  };
}

async function buildRoutes(services: Services): Promise<App> {
  const { settings, metrics, stopping } = services;
  const app: App = Fastify({
    bodyLimit: settings.limits.body,
    requestTimeout: REQUEST_MS,
    // Clients that merely offer HTTP/2 (h2c) are answered in HTTP/1.1, as RFC 9110 section 7.8 allows.
    http: { shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === 'websocket' },
    return503OnClosing: false,
    routerOptions: { maxParamLength: 400 },
    frameworkErrors: (error, request, reply) => {
      sendProblem(reply, toProblem(error), request.url);
    },
    clientErrorHandler: (error, socket) => {
      const overflow = error.code === 'HPE_HEADER_OVERFLOW';
      const answer = overflow
        ? rawProblem('RINGSIDE_E_HEADERS_TOO_LARGE', 'The header fields are too large')
        : rawProblem('RINGSIDE_E_SYNTAX', 'This is not an HTTP request');
      if (socket.writable) socket.end(answer);
    },
  }).withTypeProvider<TypeBoxTypeProvider>();

  const methods = new MethodTable();
  const guard = new Guard(settings);
  // JSON only; routes with other bodies add their own.
  app.removeContentTypeParser('text/plain');
  app.setValidatorCompiler(validatorCompiler());
  // Responses are written as they are: a serializer made from the schema would silently leave out what it does not know.
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.setErrorHandler(handleError);
  app.setNotFoundHandler((request, reply) => {
    const allowed = methods.allowed(request.url);
    if (allowed.length === 0) throw notFound(`There is nothing at ${request.url}`);
    const detail = `${request.method} is not a method of this resource; it has ${allowed.join(', ')}`;
    sendProblem(
      reply,
      new Problem('RINGSIDE_E_METHOD', detail, { headers: { allow: allowed.join(', ') } }),
      request.url,
    );
  });
  // Before the guard: the plugin has to know a refused upgrade as one, to end its socket.
  await app.register(websocket, {
    options: {
      maxPayload: MESSAGE_BYTES,
      perMessageDeflate: false,
      handleProtocols: chooseSubprotocol,
    },
    // Each socket closes itself, with its own code, when the server begins to stop.
    preClose: (done) => done(),
  });
  app.addHook('onRequest', async (request) => {
    guard.check(request);
    if (stopping.begun && !isOpen(request.url)) {
      throw new Problem('RINGSIDE_E_UNAVAILABLE', 'The server stops', { headers: { connection: 'close' } });
    }
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    metrics.observe(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
  });
  app.addHook('onRoute', (route) => methods.add(route.method, route.url));
  for (const schema of namedSchemas()) app.addSchema(schema);

  await app.register(swagger, documentOptions());
  await app.register(swaggerUi, { routePrefix: '/docs' });
  // Routes are added once the plugins above see them; those with bodies of their own get a scope of their own.
  await app.register(async (scope) => addTopologyRoutes(scope, services));
  await app.register(async (scope) => addExperimentRoutes(scope, services));
  await app.register(async (scope) => addDiffRoutes(scope, services));
  await app.register(async (scope) => addCostProfileRoutes(scope, services));
  await app.register(async (scope) => addReplayRoutes(scope, services));
  await app.register(async (scope) => addGuestMemoryRoute(scope, services));
  await app.register(async (scope) => {
    addClockRoutes(scope, services);
    addGuestRoutes(scope, services);
    addGuestAccessRoutes(scope, services);
    addQemuRoutes(scope, services);
    addFaultRoutes(scope, services);
    addDpdkRoutes(scope, services);
    addBridgeRoutes(scope, services);
    addOpenFlowRoutes(scope, services);
    addOvsRoutes(scope, services);
    addTrafficRoutes(scope, services);
    addTimelineRoute(scope, services);
    addJourneyRoutes(scope, services);
    addDryRunRoutes(scope, services);
    addCaptureRoutes(scope, services);
    addCaptureFileRoutes(scope, services);
    addEventRoutes(scope, services);
    addPointRoutes(scope, services);
    addPresetRoutes(scope);
    addWiresharkRoutes(scope);
    addServerRoutes(scope, services);
    addMetricsRoute(scope, services);
  });
  await app.ready();
  return app;
}
