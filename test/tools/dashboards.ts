/** A dashboard as JSON, as far as the tests look into it, and what Grafana would ask Prometheus. */

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly instant?: boolean;
}
export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: { readonly type: string; readonly uid: string };
  readonly targets: readonly Target[];
  readonly fieldConfig: {
    readonly defaults: { readonly unit?: string; readonly links?: readonly { readonly url: string }[] };
  };
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string }[] };
}

/** Every query of a dashboard, with its panel. */
export function expressions(dashboard: Dashboard): { panel: Panel; refId: string; expression: string }[] {
  return dashboard.panels
    .filter((panel) => panel.type !== 'row')
    .flatMap((panel) => panel.targets.map(({ refId, expr }) => ({ panel, refId, expression: expr })));
}

/** An expression with Grafana's variables filled in as Grafana would. */
export function substitute(expression: string, values: Readonly<Record<string, string>>): string {
  return expression.replace(/\$\{?(\w+)\}?/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`no value for ${whole}`);
    return value;
  });
}
