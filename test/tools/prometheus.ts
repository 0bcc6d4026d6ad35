/** A real Prometheus on a free port, scraping one address of this machine every second. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child } from './child.ts';
import { freePort } from './free-port.ts';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
interface Envelope<T> {
  readonly status: string;
  readonly error?: string;
  readonly data: T;
}
interface Answer {
  readonly result: readonly { readonly metric: Record<string, string>; readonly value: readonly [number, string] }[];
}
interface RangeAnswer {
  readonly result: readonly {
    readonly metric: Record<string, string>;
    readonly values: readonly (readonly [number, string])[];
  }[];
}

export class Prometheus {
  private readonly url: string;
  private readonly child: Child;
  private readonly folder: string;

  private constructor(url: string, child: Child, folder: string) {
    this.url = url;
    this.child = child;
    this.folder = folder;
  }

  static async start(target: string): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), 'ringside-prometheus-'));
    // JSON is YAML.
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [{ job_name: 'ringside', static_configs: [{ targets: [target] }] }],
    };
    writeFileSync(join(folder, 'prometheus.yml'), JSON.stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const child = new Child('prometheus', [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=${address}`,
      '--enable-feature=exemplar-storage',
      '--log.level=warn',
    ]);
    const prometheus = new Prometheus(`http://${address}`, child, folder);
    try {
      await child.until(async () => (await fetch(`${prometheus.url}/-/ready`)).ok, 'ready');
    } catch (error) {
      await prometheus.stop();
      throw error;
    }
    return prometheus;
  }

  /** An instant query, now or at a Unix time; throws with Prometheus' own words where it refuses the expression. */
  async query(expression: string, time_s?: number): Promise<Sample[]> {
    const at: Record<string, string> = time_s === undefined ? {} : { time: String(time_s) };
    const data = await this.ask<Answer>('query', { query: expression, ...at });
    return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  /** A range query, as for a chart: one sample for each series and step. */
  async queryRange(expression: string, start_s: number, end_s: number, step_s: number): Promise<Sample[]> {
    const range = { start: String(start_s), end: String(end_s), step: String(step_s) };
    const data = await this.ask<RangeAnswer>('query_range', { query: expression, ...range });
    return data.result.flatMap(({ metric, values }) =>
      values.map(([, value]) => ({ labels: metric, value: Number(value) })),
    );
  }

  /** The values of a label among the series that a selector matches. */
  async labelValues(label: string, selector: string): Promise<string[]> {
    return this.ask<string[]>(`label/${label}/values?${new URLSearchParams({ 'match[]': selector })}`);
  }

  /** The exemplars of all series that an expression names: the labels of the series, and of the exemplar. */
  async exemplars(expression: string, start_s: number, end_s: number): Promise<Readonly<Record<string, string>>[]> {
    const query = { query: expression, start: String(start_s), end: String(end_s) };
    const series = await this.ask<
      { seriesLabels: Record<string, string>; exemplars: { labels: Record<string, string> }[] }[]
    >('query_exemplars', query);
    return series.flatMap(({ seriesLabels, exemplars }) =>
      exemplars.map(({ labels }) => ({ ...seriesLabels, ...labels })),
    );
  }

  private async ask<T>(path: string, form?: Readonly<Record<string, string>>): Promise<T> {
    const init = form === undefined ? {} : { method: 'POST', body: new URLSearchParams(form) };
    const answer = (await (await fetch(`${this.url}/api/v1/${path}`, init)).json()) as Envelope<T>;
    if (answer.status !== 'success') throw new Error(`${answer.error}\n${path} ${form?.['query'] ?? ''}`);
    return answer.data;
  }

  /** Waits until a query's answer satisfies `enough`; throws with the last answer when it does not in time. */
  async until(expression: string, enough: (samples: Sample[]) => boolean, limit_ms = 30_000): Promise<Sample[]> {
    const end = performance.now() + limit_ms;
    for (;;) {
      const samples = await this.query(expression);
      if (enough(samples)) return samples;
      if (performance.now() > end) {
        throw new Error(`after ${limit_ms} ms: ${expression}\n${JSON.stringify(samples)}\n${this.child.output}`);
      }
      await sleep(200);
    }
  }

  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
