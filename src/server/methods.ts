/** Which methods the path of a request has, so that a wrong method is answered as such and not as a missing resource. */
interface Route {
  readonly pattern: RegExp;
  readonly method: string;
}

export class MethodTable {
  private readonly routes: Route[] = [];

  add(method: string | string[], url: string): void {
    const pattern = new RegExp(
      `^${url
        .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
        .replace(/:[a-z]+/gi, '[^/]+')
        .replace(/\*/g, '.*')}$`,
    );
    for (const one of [method].flat()) this.routes.push({ pattern, method: one });
  }

  allowed(url: string): string[] {
    const path = url.split('?', 1)[0] ?? '';
    return [...new Set(this.routes.filter((route) => route.pattern.test(path)).map((route) => route.method))];
  }
}
