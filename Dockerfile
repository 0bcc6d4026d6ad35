# Ringside alone: the sources run as they are, nothing is built. The Node here is the one that package.json pins.
FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# The image brings Node itself, so the copy that the `node` package would install by its script is not wanted.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app

COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY wireshark ./wireshark
COPY openapi ./openapi
COPY asyncapi ./asyncapi
COPY src ./src

# What is written: topology documents and captures, and the token that docker-compose.yml shares. A volume that is mounted
# there for the first time takes over the owner, so that nothing has to run as root.
RUN mkdir -p /var/lib/ringside /run/ringside && chown node:node /var/lib/ringside /run/ringside
VOLUME /var/lib/ringside
USER node

# Reachable from outside the container, hence it starts only with RINGSIDE_TOKEN or RINGSIDE_TOKEN_FILE set.
ENV HOST=0.0.0.0 PORT=8080 RINGSIDE_DATA_DIR=/var/lib/ringside
# What the first start has made of the sources is there for the next one of the container.
ENV NODE_COMPILE_CACHE=/tmp/ringside-compile-cache
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]

CMD ["node", "src/server/main.ts"]
