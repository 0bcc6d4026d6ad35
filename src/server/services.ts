/** What the routes work with, and the type of the application that they are added to. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { ApiMetrics } from './api-metrics.ts';
import type { CaptureRegistry } from './captures/capture-registry.ts';
import type { CostProfiles } from './cost-profiles.ts';
import type { EnginePool } from './engine-pool.ts';
import type { ExperimentRegistry } from './experiments/experiment-registry.ts';
import type { Settings } from './settings.ts';
import type { Stopping } from './stopping.ts';
import type { StreamSlots } from './streaming.ts';
import type { TopologyRegistry } from './topologies.ts';

export interface Services {
  readonly settings: Settings;
  readonly registry: TopologyRegistry;
  readonly profiles: CostProfiles;
  readonly captures: CaptureRegistry;
  readonly experiments: ExperimentRegistry;
  readonly pool: EnginePool;
  readonly stopping: Stopping;
  readonly streams: StreamSlots;
  readonly metrics: ApiMetrics;
}

export type App = FastifyInstance<Server, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;
