# Ringside alone: the sources run as they are, nothing is built.
FROM node:24-slim

ENV NODE_ENV=production
WORKDIR /app

COPY package.json package-lock.json ./
# The image brings Node 24 itself, so the copy that the `node` package would install by its script is not wanted.
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

COPY src ./src
COPY openapi ./openapi

# Topology documents live here; the folder belongs to the user that the server runs as.
RUN mkdir -p /var/lib/ringside && chown node:node /var/lib/ringside
VOLUME /var/lib/ringside
USER node

# Reachable from outside the container, hence it starts only with RINGSIDE_TOKEN or RINGSIDE_TOKEN_FILE set.
ENV HOST=0.0.0.0 PORT=8080 RINGSIDE_DATA_DIR=/var/lib/ringside
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]

CMD ["node", "src/server/main.ts"]
