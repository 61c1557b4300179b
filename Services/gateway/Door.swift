import Compression
import HTTP
import ServiceKit

/// Decides for every request from outside what becomes of it: handed on to a service, a file of the page, or
/// nothing.
struct Door: Sendable {
    let keeper: Doorkeeper
    let proxy: Proxy
    let pages: WebPages

    /// What takes the request, and what metrics call it. Throws for what is not reachable from outside.
    func handler(for request: Request) throws -> (route: String, handler: Router.Handler) {
        guard let path = RoutePath(request.path) else { throw Problem.badPath }
        if let route = RouteTable.route(path) {
            return (route.prefix + "/*", { request in try await forward(request, route) })
        }
        guard !RouteTable.isReserved(path) else { throw Problem.notFound }
        return ("page", { request in try pages.answer(request, path) })
    }

    private func forward(_ request: Request, _ route: Route) async throws -> Response {
        let address = keeper.address(of: request)
        var visitor: Visitor?
        switch route.access {
        case .signedIn: visitor = try await keeper.visitor(of: request)
        case .anyone(let limit, let name): try await keeper.admit(address: address, to: name, limit: limit)
        }
        return try await proxy.forward(request, route, as: visitor, from: address).packed(for: request)
    }
}
