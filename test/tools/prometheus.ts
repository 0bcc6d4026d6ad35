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
interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data: {
    readonly resultType: string;
    readonly result: readonly { readonly metric: Record<string, string>; readonly value: readonly [number, string] }[];
  };
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

  /** An instant query, now; throws with Prometheus' own words where it refuses the expression. */
  async query(expression: string): Promise<Sample[]> {
    const response = await fetch(`${this.url}/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query: expression }),
    });
    const answer = (await response.json()) as Answer;
    if (answer.status !== 'success') throw new Error(`${answer.error}\n${expression}`);
    return answer.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
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
